"""How one encoder differs from another, computed from their configurations. Needs no torch."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.counts import USUAL_LENGTH, parameter_count, work
from bothways.model.families import family
from bothways.model.families.family import Family
from bothways.model.value import Config

NOTHING = "–"
"""Stands where an encoder has no such setting."""


@dataclass(frozen=True)
class Difference:
    """A setting that two encoders do not have alike.

    Attributes:
        setting: Its name, such as ``attention.heads``.
        values: As each of the two has it; `NOTHING` where one has no such setting.
        meaning: What it is.
    """

    setting: str
    values: tuple[str, str]
    meaning: str


def named(name: str) -> tuple[Family, str]:
    """A family and one of its sizes by a name such as ``albert`` or ``albert:xlarge``.

    Raises:
        BothwaysError: There is no such family, or it has no such size.
    """
    which, _, size = name.partition(":")
    members = family(which)
    members.size(size)
    return members, size or members.default_size


def settings(config: Config) -> dict[str, Any]:
    """All settings of a configuration and of its parts, by names such as ``attention.heads``."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if isinstance(value, Config):
            found |= {f"{field.name}.{key}": inner for key, inner in settings(value).items()}
        else:
            found[field.name] = value
    return found


def meanings(config: Config) -> dict[str, str]:
    """What each setting is, in the words of the configuration's own documentation."""
    found = _attributes(type(config))
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if isinstance(value, Config):
            found |= {f"{field.name}.{key}": said for key, said in meanings(value).items()}
    return found


def _attributes(kind: type) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        listed = (one.__dict__.get("__doc__") or "").partition("Attributes:\n")[2]
        for name, said in re.findall(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", listed, re.MULTILINE):
            found[name] = re.sub(r"\s+", " ", said).replace("`", "")
    return found


def differences(a: str, b: str) -> list[Difference]:
    """How two families, or sizes of families, differ: in settings, what follows from them, and their training.

    Args:
        a: A name such as ``bert`` or ``bert:large``.
        b: Another one.

    Raises:
        BothwaysError: There is no such family or size.
    """
    (one, first), (other, second) = named(a), named(b)
    found = changes(one.size(first), other.size(second)) + consequences(one.size(first), other.size(second))
    told = (
        ("tokenizer", one.tokenizer, other.tokenizer, "The kind of its tokenizer."),
        ("objectives", ", ".join(one.objectives), ", ".join(other.objectives), "How the paper pre-trains it."),
    )
    return found + [Difference(name, (mine, theirs), meaning) for name, mine, theirs, meaning in told if mine != theirs]


def changes(one: EncoderConfig, other: EncoderConfig) -> list[Difference]:
    """Every setting in which two encoders differ, in the order of the configuration.

    A setting that one of them does not have, because its kind of part has none, is a difference too.
    """
    mine, others = settings(one), settings(other)
    meant = meanings(other) | meanings(one) | {"attention.kind": _kinds(one, other)}
    mine["blocks"], others["blocks"] = max(one.schedule) + 1, max(other.schedule) + 1
    alone = [mine["blocks"] == one.layers, others["blocks"] == other.layers]
    skipped = {"family"} | ({"blocks"} if all(alone) else set())  # one a layer in both: the layers say it
    order = [field.name for field in dataclasses.fields(EncoderConfig)]
    keys = sorted({**mine, **others}, key=lambda key: order.index(key.partition(".")[0]))  # stable: parts stay together
    pairs = {key: (_shown(mine.get(key, NOTHING)), _shown(others.get(key, NOTHING))) for key in keys}
    return [
        Difference(key, values, meant[key])
        for key, values in pairs.items()
        if key not in skipped and values[0] != values[1]
    ]


def _kinds(one: EncoderConfig, other: EncoderConfig) -> str:
    said = {config.attention.kind: (type(config.attention).__doc__ or "").partition("\n")[0] for config in (one, other)}
    return " ".join(f"{kind}: {sentence}" for kind, sentence in said.items())


def consequences(one: EncoderConfig, other: EncoderConfig) -> list[Difference]:
    """What follows from the settings of two encoders: parameters, work and longest input, where they differ."""
    computed = (
        ("parameters", "Of the encoder, those of shared blocks once.", lambda config: f"{parameter_count(config):,}"),
        ("work", f"Million multiplications for a token, in a text of {USUAL_LENGTH}.", _work),
        ("longest input", "In tokens.", lambda config: _shown(config.longest or "any")),
    )
    rows = [Difference(name, (of(one), of(other)), meaning) for name, meaning, of in computed]
    return [row for row in rows if row.values[0] != row.values[1]]


def _work(config: EncoderConfig) -> str:
    return f"{work(config) / 1e6:.2f}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
