"""What an encoder is, as a typed value: frozen dataclasses, an encoder's holding those of its parts.

A configuration refuses what it does not know: an unknown key is an error that names the closest known one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, Self

from bothways.errors import BothwaysError, closest

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
Pooler = Literal["tanh"]


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


def _kinds(hint: Any) -> tuple[Any, ...]:
    """The types that a hint such as ``str | None`` allows."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


def _check_type(name: str, value: Any, hint: Any) -> None:
    words = [word for kind in _kinds(hint) for word in typing.get_args(kind) if typing.get_origin(kind) is Literal]
    plain = tuple(typing.get_origin(kind) or kind for kind in _kinds(hint) if typing.get_origin(kind) is not Literal)
    if value in words or isinstance(value, (*plain, int) if float in plain else plain):
        return
    if words:
        raise BothwaysError(f"{name} cannot be {value!r}; there are {', '.join(words)}{closest(str(value), words)}")
    raise BothwaysError(f"{name} must be {' or '.join(kind.__name__ for kind in plain)}, not {value!r}")


def _nested(hint: Any, value: Any, where: str) -> Any:
    for kind in _kinds(hint):
        if isinstance(kind, type) and issubclass(kind, Config) and isinstance(value, dict):
            return kind.from_dict(value, where)
    return value


@dataclass(frozen=True, kw_only=True)
class EmbeddingsConfig(Config):
    """The table of tokens and what is added to it.

    Attributes:
        vocab_size: V, rows of the token table.
        width: Width of the tables; projected up where it is not the encoder's.
        positions: Rows of the learned position table, which is the longest input; 0 for none.
        segments: Rows of the segment table; 0 for none.
        norm_eps: Epsilon of the layer norm.
        dropout: Share of values dropped after the norm, in training.
        pad_id: The token whose row begins as zero and learns nothing from being looked up.
    """

    vocab_size: int
    width: int
    positions: int
    segments: int
    norm_eps: float = 1e-12
    dropout: float = 0.1
    pad_id: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "vocab_size", "width")
        _share(self, "dropout")
        if not 0 <= self.pad_id < self.vocab_size:
            raise BothwaysError(f"pad_id {self.pad_id} is outside the vocabulary of {self.vocab_size} tokens")


@dataclass(frozen=True, kw_only=True)
class AttentionConfig(Config):
    """Full attention with H heads.

    Attributes:
        heads: H; the encoder's width must be a multiple of it.
        dropout: Share of attention weights dropped in training.
    """

    heads: int
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "heads")
        _share(self, "dropout")


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig(Config):
    """The two linear layers of a block.

    Attributes:
        width: Inner width.
        activation: ``gelu`` (exact), ``gelu_tanh`` (its approximation), ``relu`` or ``silu``.
    """

    width: int
    activation: Activation = "gelu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "width")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(Config):
    """A whole encoder.

    Attributes:
        family: The family it belongs to, such as ``"bert"``.
        width: D, the width of hidden states.
        layers: Steps of the stack.
        embeddings: The tables at the bottom.
        attention: How tokens look at each other.
        feed_forward: What each token does alone.
        norm_eps: Epsilon of the blocks' layer norms.
        dropout: Share of values dropped after attention and feed-forward, in training.
        pooler: ``"tanh"`` for BERT's pooled output of the first token, None for none.
        init_std: Standard deviation of random initial weights.
    """

    family: str
    width: int
    layers: int
    embeddings: EmbeddingsConfig
    attention: AttentionConfig
    feed_forward: FeedForwardConfig
    norm_eps: float = 1e-12
    dropout: float = 0.1
    pooler: Pooler | None = "tanh"
    init_std: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "width", "layers")
        _share(self, "dropout")
        if self.width % self.attention.heads:
            raise BothwaysError(
                f"the width {self.width} is not a multiple of the {self.attention.heads} heads; change one of them"
            )

    @property
    def longest(self) -> int | None:
        """The longest input in tokens, or None where positions set no limit."""
        return self.embeddings.positions or None


@dataclass(frozen=True, kw_only=True)
class HeadConfig(Config):
    """A head on an encoder.

    Attributes:
        kind: ``"mlm"``, ``"nsp"`` or ``"classify"``.
        labels: Names of the classes, in order, for heads that have classes.
        hidden: ``"none"`` for a plain linear classifier, ``"gelu"`` for two layers with GELU and dropout between.
        dropout: Share of values dropped before the linear layers, in training.
    """

    kind: Literal["mlm", "nsp", "classify"]
    labels: tuple[str, ...] = ()
    hidden: Literal["none", "gelu"] = "none"
    dropout: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        super().__post_init__()
        _share(self, "dropout")


def _positive(config: Config, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise BothwaysError(f"{name} must be at least 1, not {getattr(config, name)}")


def _share(config: Config, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            raise BothwaysError(f"{name} must be at least 0 and below 1, not {getattr(config, name)}")
