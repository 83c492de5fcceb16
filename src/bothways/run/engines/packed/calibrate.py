"""Scales of inputs for int8, found by running real texts.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.int8 import LEVELS, InputScale

_KEPT = 4096
"""Rows of a layer's input that are looked at."""
_SHARES = (1.0, 0.9999, 0.9995)
"""Of the values, that lie within the scale; what is outside is set to its ends."""
_SOME = 400_000
_ROWS = ("channels", "middles", "apart")
_APART = 16
"""Channels of an activation's output that are multiplied apart: one scale for all would cost the others their digits
(Dettmers et al. 2022, "LLM.int8()", section 3.2)."""


@dataclass(frozen=True)
class Smoothing:
    """How the channels of a layer's input are brought to one range (Xiao et al. 2023, "SmoothQuant", section 4).

    Attributes:
        share: Of the difference between channels that moves into the weights; their alpha.
        middles: Whether each channel is moved to the middle of its own range first (Wei et al. 2023, "Outlier
            Suppression+"): a norm gives some channels a large part that is nearly the same for every token.
    """

    share: float
    middles: bool


AFTER_NORM, MIXED = Smoothing(1.0, middles=True), Smoothing(0.3, middles=False)
"""What goes into the first products of a block's halves, and what attention mixed."""


def calibrate(
    parts: Parts, batches: Iterable[TokenBatch], layers: Mapping[str, tuple[nn.Linear, Smoothing | None]]
) -> dict[str, InputScale]:
    """Runs texts through an encoder and finds a scale for what goes into its layers.

    Args:
        parts: Of the model, in float32.
        batches: Real texts.
        layers: By name a linear layer of the encoder, and how its channels are smoothed; None: all share one range but
            the largest, which are multiplied apart.

    Returns:
        A scale for each name.
    """
    seen: dict[str, list[Tensor]] = {name: [] for name in layers}
    hooks = [layer.register_forward_pre_hook(_keeper(seen[name])) for name, (layer, _) in layers.items()]
    parts.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                parts.encoder(batch)
    finally:
        for hook in hooks:
            hook.remove()
    with torch.inference_mode():
        return {name: _scale(torch.cat(seen[name]), *layers[name]) for name in layers}


def as_tensors(scales: Mapping[str, InputScale]) -> dict[str, Tensor]:
    """Scales as tensors by name, to be saved."""
    found = {}
    for layer, scale in scales.items():
        found[f"{layer}.step"] = torch.tensor(scale.step, dtype=torch.float64)
        found[f"{layer}.zero"] = torch.tensor(scale.zero)
        rows = {name: getattr(scale, name) for name in _ROWS}
        found |= {f"{layer}.{name}": value for name, value in rows.items() if value is not None}
    return found


def from_tensors(tensors: Mapping[str, Tensor]) -> dict[str, InputScale]:
    """What `as_tensors` was given."""
    names = [name.removesuffix(".step") for name in tensors if name.endswith(".step")]
    return {
        layer: InputScale(
            float(tensors[f"{layer}.step"]),
            int(tensors[f"{layer}.zero"]),
            *(tensors.get(f"{layer}.{name}") for name in _ROWS),
        )
        for layer in names
    }


def _keeper(rows: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if sum(map(len, rows)) < _KEPT:
            rows.append(inputs[0].detach().float())

    return keep


def _scale(x_TI: Tensor, layer: nn.Linear, smoothing: Smoothing | None) -> InputScale:
    if smoothing is None:
        apart = x_TI.abs().amax(0).topk(min(_APART, x_TI.shape[1] // 4)).indices
        return InputScale(*_best(x_TI[:, others(apart, x_TI.shape[1])].flatten()), apart=apart)
    low, high = x_TI.amin(0), x_TI.amax(0)
    middles = (low + high) / 2 if smoothing.middles else None
    reach = ((high - low) / 2 if smoothing.middles else torch.maximum(high, -low)).clamp(min=1e-5)
    weights = layer.weight.detach().abs().amax(0).clamp(min=1e-5)
    channels = (reach**smoothing.share / weights ** (1 - smoothing.share)).clamp(min=1e-5)
    return InputScale(*_best(((x_TI if middles is None else x_TI - middles) / channels).flatten()), channels, middles)


def others(apart: Tensor, count: int) -> Tensor:
    """The channels that are not apart."""
    held = torch.ones(count, dtype=torch.bool)
    held[apart] = False
    return held.nonzero().squeeze(1)


def _best(values: Tensor) -> tuple[float, int]:
    """Step and zero with the least squared error, among scales that hold different shares of the values."""
    some = values[:: max(1, len(values) // _SOME)]
    ordered = some.sort().values
    found: list[tuple[float, float, int]] = []
    for share in _SHARES:
        out = round((1 - share) * len(ordered))
        low, high = min(0.0, float(ordered[out])), max(0.0, float(ordered[-1 - out]))
        step = max((high - low) / LEVELS, 1e-12)
        zero = round(-low / step)
        back = ((some / step + zero).round().clamp(0, LEVELS) - zero) * step
        found.append((float((back - some).square().mean()), step, zero))
    return min(found)[1:]
