"""Texts as numbers: hidden states, and one vector a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answers import mean_by_text
from bothways.run.engines.protocol import DENSE, HIDDEN, VECTOR, Output
from bothways.run.pooling import check_pooling, normalize

if TYPE_CHECKING:
    from bothways.run.runner import Runner


class Wish(NamedTuple):
    """What vectors are wanted; what each means says `Questions.embed`."""

    pooling: str | None = None
    normalize: bool | None = None
    prompt: str | None = None
    dims: int | None = None


def hidden(model: Runner, texts: Sequence[str], layers: int | Sequence[int] | None = None) -> list[np.ndarray]:
    """``(L, D)`` or ``(N, L, D)`` a text; as `Model.hidden` says."""
    several = isinstance(layers, Sequence | np.ndarray)
    wanted = () if layers is None else _layers(model, layers if several else [layers])  # type: ignore[arg-type, list-item]
    encoded = model.encode(texts, None)
    output = Output(HIDDEN, layers=() if wanted == (model.config.layers,) else wanted)
    out = model.by_token(encoded, output, (max(1, len(wanted)) * model.config.width,))
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts))
    found = np.split(out, encoded.starts[first[1:]]) if len(first) else []
    return [each.reshape(len(each), len(wanted), -1).swapaxes(0, 1) for each in found] if several else found


def _layers(model: Runner, layers: Sequence[int]) -> tuple[int, ...]:
    """Layers counted from the start, of which some were counted from the end.

    Raises:
        BothwaysError: There is no such layer, or none is wanted.
    """
    count = model.config.layers
    if not len(layers):
        raise BothwaysError(f"layers is empty; name some of 0 to {count}, or leave it out for the last")
    for layer in layers:
        if isinstance(layer, bool) or not isinstance(layer, int | np.integer) or not -count - 1 <= layer <= count:
            raise BothwaysError(
                f"{model.name} has no layer {layer!r}: there are 0, which goes into the first, to {count}, or -1"
            )
    return tuple(int(layer) % (count + 1) for layer in layers)


def embed(model: Runner, texts: Sequence[str], wish: Wish) -> np.ndarray:
    """``(texts, E)``; as `Model.embed` says."""
    output, width, before = check(model, wish)
    if before:  # something that is not a text is refused where texts become tokens
        texts = [before + text if isinstance(text, str) else text for text in texts]
    encoded = model.encode(texts, None)
    out = mean_by_text(model.by_sequence(encoded, output, (width,)), encoded)[:, : wish.dims]
    scaled = model.sentence.normalize if wish.normalize is None else wish.normalize
    return normalize(out) if scaled else out


def check(model: Runner, wish: Wish) -> tuple[Output, int, str]:
    """What an engine is asked for, the width of its vectors, and what stands before texts.

    Raises:
        BothwaysError: There is no such pooling or prompt, or vectors have fewer values than wanted.
    """
    way = check_pooling(model.sentence.pooling if wish.pooling is None else wish.pooling)
    found = width(model, way)
    if wish.dims is not None and not 1 <= wish.dims <= found:
        raise BothwaysError(f"dims must be 1 to {found}, the width of the vectors of {model.name}, not {wish.dims}")
    return Output(VECTOR, way, dense=_is_dense(model, way)), found, model.sentence.prompt(wish.prompt)


def width(model: Runner, way: str) -> int:
    """The width of a model's vectors."""
    if _is_dense(model, way):
        return model.head_configs[DENSE].outputs
    return model.config.width * len(way.split("+"))


def _is_dense(model: Runner, way: str) -> bool:
    """Whether a model's dense layer reads vectors pooled in a way."""
    return DENSE in model.head_configs and way == model.sentence.pooling
