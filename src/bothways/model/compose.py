"""Changed configurations from names and values as they are typed. Needs no torch.

Any setting can be changed, other kinds of parts included, so an encoder can be composed that no paper has.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from bothways.errors import BothwaysError, closest
from bothways.model.config import EncoderConfig
from bothways.model.value import Config, kinds_of, variant

C = TypeVar("C", bound=Config)

_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def changed(config: EncoderConfig, settings: Mapping[str, Any]) -> EncoderConfig:
    """An encoder with other settings.

    Where the tables are as wide as the encoder, and only the encoder's `width` is set, theirs follows.

    Args:
        config: What to begin with.
        settings: Values by names such as ``layers`` or ``attention.heads``, as Python has them or as they are typed:
            ``"8"``, ``"0.1"``, ``"yes"``, ``"none"``, ``"64,64,0"``. ``attention.kind`` gives another kind of
            attention, with what both kinds have; a part that is not there, such as ``convolution.kernel``, is made.

    Raises:
        BothwaysError: A name is unknown (the closest known one is named), a value is not of the setting's type, or the
            settings do not go together.
    """
    if "family" in settings:
        raise BothwaysError("family is not a setting: choose the family itself (--family)")
    made = _with(config, dict(settings), "")
    if "width" in settings and "embeddings.width" not in settings and config.embeddings.width == config.width:
        made = made.derive(embeddings__width=made.width)
    return made


def _with(config: C, settings: dict[str, Any], before: str) -> C:
    """The configuration with settings named relative to it; `before` completes their names in messages."""
    hints = typing.get_type_hints(type(config))
    own: dict[str, Any] = {}
    inner: dict[str, dict[str, Any]] = {}
    for name, value in settings.items():
        part, _, rest = name.partition(".")
        kind = _config_class(hints.get(part))
        if part not in hints or (rest and kind is None):
            raise _unknown(config, name, before)
        if rest:
            inner.setdefault(part, {})[rest] = value
        elif kind is not None and isinstance(value, str) and _meant(value) is not None:
            raise BothwaysError(
                f"{before}{part} is a part; set what it is made of, such as {_example(before, part, kind)}"
            )
        else:
            own[part] = typed(value, hints[part], before + part)
    for part, values in inner.items():
        own[part] = _part(getattr(config, part), _config_class(hints[part]), values, f"{before}{part}.")
    return dataclasses.replace(config, **own)  # type: ignore[type-var]


def _part(part: Config | None, base: Any, settings: dict[str, Any], before: str) -> Config:
    """A part with other settings: of another kind if they say so, made from nothing if there was none."""
    kind: type[Config] = base if part is None else type(part)
    if "kind" in settings:
        kind = variant(base, {"kind": str(settings.pop("kind"))}, before.removesuffix("."))
    if part is not None and type(part) is kind:
        return _with(part, settings, before)
    # what all kinds have stays; a name that two kinds share besides need not mean the same
    kept = {
        field.name: getattr(part, field.name) for field in dataclasses.fields(base) if part and field.name != "kind"
    }
    needed = [field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING]  # type: ignore[arg-type]
    if lacking := [before + name for name in needed if name not in kept and name not in settings]:
        raise BothwaysError(f"{before.removesuffix('.')} of this kind also needs {', '.join(lacking)}")
    hints = typing.get_type_hints(kind)
    first = {name: typed(settings.pop(name), hints[name], before + name) for name in needed if name in settings}
    return _with(kind(**kept | first), settings, before)


def typed(value: Any, hint: Any, name: str) -> Any:
    """A value as a setting's type wants it; what is no text is taken as it is.

    Args:
        value: As typed, or as Python has it.
        hint: The setting's type.
        name: The setting's, for messages.

    Raises:
        BothwaysError: The text cannot be read as such a value.
    """
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, list) else value
    kinds = kinds_of(hint)
    if types.NoneType in kinds and _meant(value) is None:
        return None
    if any(typing.get_origin(kind) is Literal for kind in kinds):
        return value  # the configuration knows the words
    for kind in kinds:
        if typing.get_origin(kind) is tuple:
            return tuple(_number(one.strip(), typing.get_args(kind)[0], name) for one in value.split(","))
        if kind in (bool, int, float):
            return _number(value, kind, name)
    return value


def _number(text: str, kind: Any, name: str) -> Any:
    try:
        return _WORDS[text.lower()] if kind is bool else kind(text.replace("_", ""))
    except (KeyError, ValueError):
        wanted = {bool: "yes or no", int: "a whole number", float: "a number"}[kind]
        raise BothwaysError(f"{name} must be {wanted}, not {text!r}") from None


def _meant(value: Any) -> Any:
    """None for the word, in either spelling."""
    return None if isinstance(value, str) and value.lower() == "none" else value


def _config_class(hint: Any) -> type[Config] | None:
    return next((kind for kind in kinds_of(hint) if isinstance(kind, type) and issubclass(kind, Config)), None)


def _unknown(config: Config, name: str, before: str) -> BothwaysError:
    known = [before + one for one in _names(config)]
    whole = before + name
    return BothwaysError(f"there is no setting {whole!r}{closest(whole, known) or '; there are ' + ', '.join(known)}")


def _names(config: Config) -> list[str]:
    """All names that settings of a configuration can have."""
    found: list[str] = []
    for name, hint in typing.get_type_hints(type(config)).items():
        part = getattr(config, name) or _config_class(hint)
        if _config_class(hint) is None:
            found.append(name)
        elif isinstance(part, Config):
            found += [f"{name}.{inner}" for inner in _names(part)]
        else:
            found += [f"{name}.{field.name}" for field in dataclasses.fields(part)]  # type: ignore[arg-type]
    return found


def _example(before: str, part: str, kind: type[Config]) -> str:
    return f"{before}{part}.{dataclasses.fields(kind)[0].name}"  # type: ignore[arg-type]
