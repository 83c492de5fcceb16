"""Weights for int8, rounded by what real texts give their layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.int8 import Rounded
from bothways.run.engines.packed.rounding import Inputs, rounded

_APART, _ONE_IN = 8, 48
"""Channels that stay out of int8: so many, or a share of all, whichever is more."""
_ROWS = tuple(field.name for field in fields(Rounded))


@dataclass(frozen=True)
class Layer:
    """What can be computed in int8.

    Attributes:
        reads: The module whose input is the layer's.
        weight: ``(O, I)``.
    """

    reads: nn.Module
    weight: Tensor


def calibrate(parts: Parts, batches: Iterable[TokenBatch], layers: Mapping[str, Layer]) -> dict[str, Rounded]:
    """Runs texts through an encoder and rounds the weights of its layers.

    Args:
        parts: Of the model, in float32.
        batches: Real texts.
        layers: Of the encoder, by name.

    Returns:
        A rounded weight for each name.
    """
    seen = {name: Inputs() for name in layers}
    hooks = [layer.reads.register_forward_pre_hook(_keeper(seen[name])) for name, layer in layers.items()]
    parts.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                parts.encoder(batch)
    finally:
        for hook in hooks:
            hook.remove()
    found = {}
    with torch.inference_mode(), progress("Rounding weights", len(layers), "layers") as bar:
        for name, layer in layers.items():
            found[name] = rounded(seen.pop(name), layer.weight.detach().float(), _apart(layer))
            bar.advance(1)
    return found


def as_tensors(weights: Mapping[str, Rounded]) -> dict[str, Tensor]:
    """Rounded weights as tensors by name, to be saved."""
    return {f"{layer}.{name}": getattr(found, name) for layer, found in weights.items() for name in _ROWS}


def from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Rounded]:
    """What `as_tensors` was given.

    Raises:
        BothwaysError: Something is missing.
    """
    names = dict.fromkeys(name.rpartition(".")[0] for name in tensors)
    try:
        return {layer: Rounded(*(tensors[f"{layer}.{name}"] for name in _ROWS)) for layer in names}
    except KeyError as missing:
        raise BothwaysError(f"what is kept of this model in int8 lacks {missing}; quantize it again") from None


def _apart(layer: Layer) -> int:
    """How many channels stay out of int8: an even number, none of very few."""
    width = layer.weight.shape[1]
    return max(_APART, width // _ONE_IN) // 2 * 2 if width > 4 * _APART else 0


def _keeper(inputs: Inputs) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    return lambda module, given: inputs.add(given[0].detach().float())
