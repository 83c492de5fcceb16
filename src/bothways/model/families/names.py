"""Name tables: the published names of a checkpoint's tensors beside ours, read in both directions.

A table is a dictionary from published name to ours, ``{}`` standing for a layer's number, ``.*`` at the end of both for
``.weight`` and ``.bias``. Old spellings that are read
but never written stand in `spellings`, names that are known and dropped in `dropped`. A name that is in none of them is
reported, never skipped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NameTable:
    """The names of one family's tensors.

    Attributes:
        names: Published name to ours. Ours begin with ``encoder.`` or the head's name.
        prefix: What published checkpoints with heads put before the encoder's names, such as ``"bert."``.
        spellings: Endings of old checkpoints to today's, such as ``.gamma`` to ``.weight``.
        tied: Published names that repeat another tensor: read when the other is absent, never written.
        dropped: Published names (patterns) that carry nothing, such as position counters.
    """

    names: dict[str, str]
    prefix: str
    spellings: dict[str, str] = field(default_factory=dict)
    tied: dict[str, str] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", written_out(self.names))

    def ours(self, published: str) -> str | None:
        """Our name for a published one; None for a name that carries nothing; the empty string for an unknown one."""
        name = published
        for old, new in self.spellings.items():
            if name.endswith(old):
                name = name.removesuffix(old) + new
        bare = name.removeprefix(self.prefix)
        if any(re.fullmatch(pattern, bare) for pattern in self.dropped):
            return None
        bare = self.tied.get(bare, bare)
        pattern, numbers = template(bare)
        found = self.names.get(bare) or self.names.get(pattern)
        return found.format(*numbers) if found else ""

    def published(self, ours: str, *, bare: bool = False) -> str:
        """The published name of one of our tensors.

        Args:
            ours: Our name.
            bare: Whether the checkpoint is of an encoder without heads, whose names carry no prefix.

        Raises:
            KeyError: The table does not hold the name.
        """
        pattern, numbers = template(ours)
        for theirs, name in self.names.items():
            if name in (ours, pattern):
                prefix = self.prefix if name.startswith("encoder.") and not bare else ""
                return prefix + theirs.format(*numbers)
        raise KeyError(ours)

    def is_tied(self, published: str) -> bool:
        """Whether a published name only repeats another tensor."""
        return published.removeprefix(self.prefix) in self.tied

    def holds(self, ours: Iterable[str]) -> bool:
        """Whether every one of our names can be written in published names."""
        known = set(self.names.values())
        return all(name in known or template(name)[0] in known for name in ours)


def written_out(names: dict[str, str]) -> dict[str, str]:
    """A table with ``.weight`` and ``.bias`` in place of every ``.*``."""
    whole: dict[str, str] = {}
    for theirs, ours in names.items():
        endings = (".weight", ".bias") if theirs.endswith(".*") else ("",)
        whole |= {theirs.removesuffix(".*") + end: ours.removesuffix(".*") + end for end in endings}
    return whole


def template(name: str) -> tuple[str, list[str]]:
    """A name with its first number, a layer's, replaced by ``{}``, and that number, if there is one."""
    match = re.search(r"(?<=\.)\d+(?=\.)", name)
    if match is None:
        return name, []
    return name[: match.start()] + "{}" + name[match.end() :], [match.group()]
