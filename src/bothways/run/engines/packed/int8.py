"""Linear layers in int8: weights rounded a row at a time, inputs on a scale that was found on real texts.

What goes into a layer is shifted and scaled to 0 .. 255. The scale is fixed (it was calibrated), so a text's numbers do
not depend on what else is in its batch. Each input channel has its own factor, moved into the weights, so that a few
large channels do not cost all others their digits (Xiao et al. 2023, "SmoothQuant", section 4).

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.kernels.compiled import Rounding, kernels
from bothways.run.engines.packed.linear import FUSED

LEVELS = 255


@dataclass(frozen=True)
class InputScale:
    """How a layer's input becomes integers: ``((x - middles) / channels / step + zero)``, rounded, within 0 .. 255.

    Attributes:
        step: What one level is worth.
        zero: The level of 0.
        channels: ``(I,)`` what each channel is divided by; None: one and nothing for all channels.
        middles: ``(I,)`` what is taken off each channel first.
        apart: The channels that are so large that they are multiplied apart, in float32; they do not count here.
    """

    step: float
    zero: int
    channels: Tensor | None = None
    middles: Tensor | None = None
    apart: Tensor | None = None


@cache
def can_int8() -> bool:
    """Whether this torch multiplies int8 by its own fast operator here, and rightly: a small product is tried."""
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(16, 32, generator=draw), torch.rand(4, 32, generator=draw)
    try:
        with torch.inference_mode():
            layer = Int8Linear(weight, None, InputScale(1 / LEVELS, 0), torch.float32)
            found, summed = layer(x), layer.plus(x, torch.ones(4, 16))
    except (AttributeError, RuntimeError):  # an operator without a promise to stay
        return False
    plain = functional.linear(x, weight)
    return bool((found - plain).abs().max() < 0.2 and (summed - plain - 1).abs().max() < 0.2)


class Int8Linear(nn.Module):
    """A linear layer whose product is computed in int8.

    Args:
        weight: ``(O, I)`` float32.
        bias: ``(O,)``, or None.
        scale: Of its input.
        dtype: What comes out: float32 or bfloat16.
        activation: Applied to what comes out; a name in `ACTIVATIONS` that can be fused, or None.
        gives: If given, the scale of the next layer's input: what comes out is that layer's integers.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        scale: InputScale,
        dtype: torch.dtype,
        activation: str | None = None,
        gives: InputScale | None = None,
    ) -> None:
        super().__init__()
        weight = weight.detach().float()
        bias = None if bias is None else bias.detach().float()
        if scale.middles is not None:  # what they contribute is the same for every text
            always = weight @ scale.middles
            bias = always if bias is None else bias + always
        if scale.channels is not None:
            weight = weight * scale.channels
        steps = weight.abs().amax(1).clamp(min=1e-12) / 127
        self.out_features = len(weight)
        self.scale, self.dtype = scale, torch.uint8 if gives is not None else dtype
        self.bias = bias
        self._steps, self._zeros = steps, torch.zeros(len(weight), dtype=torch.int64)
        self._weight = torch.ops.onednn.qlinear_prepack((weight / steps[:, None]).round().to(torch.int8), None)
        self._out = (1.0, 0) if gives is None else (gives.step, gives.zero)
        self._kernel, self._algorithm = ("none", "") if activation is None else FUSED[activation]
        by = torch.full((weight.shape[1],), 1 / scale.step)
        by = by if scale.channels is None else by / scale.channels
        shift = torch.full_like(by, scale.zero + 0.5)  # what follows cuts fractions off
        if scale.middles is not None:
            shift -= scale.middles * by
        self.rounding: Rounding = by.contiguous(), shift.contiguous()

    def integers(self, x_TI: Tensor) -> Tensor:
        """``(T, I)`` the input as levels, bytes."""
        if x_TI.dtype == torch.uint8:
            return x_TI
        if (kernel := kernels()) is not None and kernel.reads(x_TI):
            return kernel.rounded(x_TI, self.rounding)
        by, shift = self.rounding
        return torch.addcmul(shift, x_TI, by).clamp_(0, LEVELS).to(torch.int32).to(torch.uint8)

    def forward(self, x_TI: Tensor) -> Tensor:
        """From ``(T, I)``, numbers or this layer's levels, to ``(T, O)``."""
        out: Tensor = torch.ops.onednn.qlinear_pointwise(
            *self._factors(x_TI), self.bias, *self._out, self.dtype, self._kernel, [], self._algorithm
        )
        return out

    def plus(self, x_TI: Tensor, other_TO: Tensor) -> Tensor:
        """What `forward` gives, without activation, and another ``(T, O)`` added to it."""
        plain: tuple[Any, ...] = (1.0, 0)  # a scale and a zero that change nothing
        out: Tensor = torch.ops.onednn.qlinear_pointwise.binary(
            *(*self._factors(x_TI), other_TO.to(self.dtype), self.bias, *plain, self.dtype, *plain),
            *("add", 1.0, "none", [], ""),
        )
        return out

    def _factors(self, x_TI: Tensor) -> tuple[Any, ...]:
        """Both sides of the product, each with its scale and its zero."""
        x_TI = self.integers(x_TI)
        return x_TI, self.scale.step, self.scale.zero, self._weight, self._steps, self._zeros
