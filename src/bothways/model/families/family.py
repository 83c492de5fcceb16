"""What a family file declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.model.config import EncoderConfig
from bothways.model.families.names import NameTable


@dataclass(frozen=True, kw_only=True)
class Family:
    """A family of encoders: what its file says about it.

    Attributes:
        name: As in ``config.json``'s ``model_type`` and on the command line.
        title: As people write it.
        year: Of the paper.
        paper: Authors, title, place.
        sizes: Published sizes by name.
        default_size: The size meant when none is given.
        heads: Kinds of heads its published checkpoints have.
        objectives: How the paper pre-trains it.
        tokenizer: Kind of its tokenizer.
        names: Names of its tensors in published checkpoints.
        from_hf: Translates the Hugging Face ``config.json`` (as a dictionary); complains about keys it does not know.
        to_hf: The reverse.
        architectures: For a set of heads, the class name in ``transformers`` that opens a checkpoint with them.
    """

    name: str
    title: str
    year: int
    paper: str
    sizes: dict[str, EncoderConfig]
    default_size: str
    heads: tuple[str, ...]
    objectives: tuple[str, ...]
    tokenizer: str
    names: NameTable
    from_hf: Callable[[dict[str, Any]], EncoderConfig]
    to_hf: Callable[[EncoderConfig], dict[str, Any]]
    architectures: dict[frozenset[str], str]

    def size(self, name: str | None = None) -> EncoderConfig:
        """The configuration of a published size.

        Raises:
            BothwaysError: There is no such size; those there are, are listed.
        """
        name = name or self.default_size
        if name not in self.sizes:
            known = ", ".join(self.sizes)
            raise BothwaysError(f"{self.title} has no size {name!r}; its sizes are {known}{closest(name, self.sizes)}")
        return self.sizes[name]
