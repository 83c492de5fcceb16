"""What a search for settings may try: ranges and lists of values, as they are typed and checked."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bothways.errors import BothwaysError, closest

_FORM = "NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C"


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: The least.
        high: The greatest.
        log: Whether each order of magnitude is as likely as the others, not each number.
        whole: Whether only integers.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True)
class Choices:
    """Some values."""

    values: tuple[Any, ...]

    def __str__(self) -> str:
        return ", ".join(str(value) for value in self.values)


Space = dict[str, Range | Choices]


def read_search(given: Mapping[str, Any] | Iterable[str], hints: Mapping[str, Any]) -> Space:
    """A search space from what was typed.

    Args:
        given: Strings such as ``learning_rate=1e-5:5e-4:log`` and ``epochs=2,3,5``; or a dictionary from names to what
            stands behind the equals sign, or to lists of values.
        hints: The types of the settings that can be searched, by name.

    Raises:
        BothwaysError: A name is unknown, or what is to be tried makes no sense for it; the sentence has the form.
    """
    pairs = given.items() if isinstance(given, Mapping) else [_named(each) for each in given]
    space: Space = {}
    for name, values in pairs:
        if name not in hints:
            raise BothwaysError(f"there is no setting {name!r} that could be searched{closest(name, hints)}")
        if name in space:
            raise BothwaysError(f"{name} is searched twice: say once what is to be tried")
        space[name] = _one(name, values, hints[name])
    return space


def _named(typed: str) -> tuple[str, str]:
    name, equals, values = typed.partition("=")
    if not equals:
        raise BothwaysError(f"what is searched is said as {_FORM}, not {typed!r}")
    return name.strip().replace("-", "_"), values


def _one(name: str, values: Any, hint: Any) -> Range | Choices:
    if isinstance(values, Range | Choices):
        return values
    if isinstance(values, str) and ":" in values:
        return _range(name, values, hint)
    listed = values.split(",") if isinstance(values, str) else list(values)
    if not listed:
        raise BothwaysError(f"{name} has no value to try: {_FORM}")
    read = tuple(_value(name, each.strip(), hint) if isinstance(each, str) else each for each in listed)
    if len(set(read)) < len(read):
        raise BothwaysError(f"{name} is to try the same value twice: {', '.join(str(each) for each in read)}")
    return Choices(read)


def _range(name: str, typed: str, hint: Any) -> Range:
    low, _, rest = typed.partition(":")
    high, _, scale = rest.partition(":")
    kinds = _kinds(hint)
    if not kinds & {int, float}:
        raise BothwaysError(f"{name} is no number: list what is to be tried, {name}=A,B,C")
    if scale not in ("", "log"):
        raise BothwaysError(f"the range of {name} ends in {scale!r}, which means nothing: {_FORM}")
    whole = float not in kinds
    number = int if whole else float
    ends = [_value(name, end.strip(), number) for end in (low, high)]
    made = Range(float(ends[0]), float(ends[1]), scale == "log", whole)
    if not (math.isfinite(made.low) and math.isfinite(made.high) and made.low < made.high):
        raise BothwaysError(f"the range of {name} must go from a lower to a higher number, not {typed!r}")
    if made.log and made.low <= 0:
        raise BothwaysError(f"the range of {name} begins at {low}, but on a log scale it must begin above 0")
    return made


def _value(name: str, typed: str, hint: Any) -> Any:
    kinds, texts = _kinds(hint), _texts(hint)
    if typed.lower() == "none" and type(None) in kinds:
        return None
    if bool in kinds and typed.lower() in ("true", "false"):
        return typed.lower() == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(typed)
            except ValueError:
                continue
    if typed and (typed in texts if texts else str in kinds):
        return typed
    wanted = ", ".join(texts) or " or ".join(sorted(kind.__name__ for kind in kinds if kind is not type(None)))
    raise BothwaysError(f"{name} cannot be {typed!r}: it takes {wanted}{closest(typed, texts)}")


def _members(hint: Any) -> list[Any]:
    """The members of a union of types, or the type."""
    return list(typing.get_args(hint)) if isinstance(hint, types.UnionType) or _is_union(hint) else [hint]


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) is typing.Union


def _kinds(hint: Any) -> set[type]:
    return {member for member in _members(hint) if isinstance(member, type)}


def _texts(hint: Any) -> list[str]:
    """The texts that a setting takes, where they are listed."""
    return [
        text for member in _members(hint) if typing.get_origin(member) is Literal for text in typing.get_args(member)
    ]
