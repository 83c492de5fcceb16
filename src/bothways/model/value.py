"""What every configuration is made of: a frozen value that becomes plain data and comes back, strictly.

A configuration refuses what it does not know: an unknown key is an error that names the closest known one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, Self

from bothways.errors import BothwaysError, closest


class Config:
    """What every configuration can do: become a plain dictionary and come back, strictly."""

    def __post_init__(self) -> None:
        for name, hint in typing.get_type_hints(type(self)).items():
            _check_type(name, getattr(self, name), hint)

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain dictionaries, strings and numbers."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "the configuration") -> Self:
        """Makes the configuration from plain values.

        Raises:
            BothwaysError: A key is unknown (the closest known one is named) or missing.
        """
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in values:
            if key not in fields:
                raise BothwaysError(f"{where} has an unknown key {key!r}{closest(key, fields)}")
        for key, field in fields.items():
            if key not in values and field.default is dataclasses.MISSING:
                raise BothwaysError(f"{where} lacks the key {key!r}")
        made = {key: _nested(hints[key], value, f"{where}, {key}") for key, value in values.items()}
        return cls(**made)

    def derive(self, **changes: Any) -> Self:
        """A changed copy; the name of a part's setting is written ``part__setting``.

        Raises:
            BothwaysError: A name is unknown; the closest known one is named.
        """
        nested: dict[str, dict[str, Any]] = {}
        flat: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        for name, value in changes.items():
            part, _, rest = name.partition("__")
            if part not in known:
                raise BothwaysError(f"{type(self).__name__} has no setting {part!r}{closest(part, known)}")
            if rest:
                nested.setdefault(part, {})[rest] = value
            else:
                flat[part] = value
        for part, inner in nested.items():
            flat[part] = flat.get(part, getattr(self, part)).derive(**inner)
        return dataclasses.replace(self, **flat)  # type: ignore[type-var]


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """The types that a hint such as ``str | None`` allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _check_type(name: str, value: Any, hint: Any) -> None:
    words = [word for kind in kinds_of(hint) for word in typing.get_args(kind) if typing.get_origin(kind) is Literal]
    plain = tuple(typing.get_origin(kind) or kind for kind in kinds_of(hint) if typing.get_origin(kind) is not Literal)
    if value in words or isinstance(value, (*plain, int) if float in plain else plain):
        return
    if words:
        raise BothwaysError(f"{name} cannot be {value!r}; there are {', '.join(words)}{closest(str(value), words)}")
    raise BothwaysError(f"{name} must be {' or '.join(kind.__name__ for kind in plain)}, not {value!r}")


def _nested(hint: Any, value: Any, where: str) -> Any:
    for kind in kinds_of(hint):
        if isinstance(kind, type) and issubclass(kind, Config) and isinstance(value, dict):
            return variant(kind, value, where).from_dict(value, where)
        if typing.get_origin(kind) is tuple and isinstance(value, list):
            return tuple(value)
    return value


def variant(base: type[Config], value: dict[str, Any], where: str) -> type[Config]:
    """The class that a part's ``kind`` names: `base` itself or one derived from it."""
    if "kind" not in value:
        return base
    variants = {one.kind: one for one in (base, *base.__subclasses__()) if hasattr(one, "kind")}
    if value["kind"] not in variants:
        known = ", ".join(variants)
        near = closest(str(value["kind"]), variants)
        raise BothwaysError(f"{where} cannot be of the kind {value['kind']!r}; there are {known}{near}")
    return variants[value["kind"]]


def positive(config: Config, *names: str) -> None:
    """Refuses settings below 1."""
    for name in names:
        if getattr(config, name) < 1:
            raise BothwaysError(f"{name} must be at least 1, not {getattr(config, name)}")


def share(config: Config, *names: str) -> None:
    """Refuses settings that are no share: below 0, or 1 and more."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise BothwaysError(f"{name} must be at least 0 and below 1, not {getattr(config, name)}")
