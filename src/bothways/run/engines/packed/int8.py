"""Linear layers in int8: weights were rounded once (`rounding`), what goes in is rounded as it comes.

Each token has its own scale, so its numbers do not depend on what else is in its batch, and one that is large costs the
others nothing. Channels are brought to one range first, which the weights take back.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.kernels.compiled import kernels
from bothways.model.kernels.functions import FLOATS, Levels, Whole, multiplied
from bothways.model.parts.feed_forward import ACTIVATIONS

LEVELS = 255


@dataclass(frozen=True)
class Rounded:
    """A weight in int8, of inputs that were moved and divided: ``(x - middles) / channels``.

    Channels apart are as they were; the int8 weights of these are 0.

    Attributes:
        weight: ``(O, I)`` int8.
        units: ``(O,)`` float32 what 1 in a row of it is worth.
        channels: ``(I,)`` float32.
        middles: ``(I,)`` float32.
        apart: ``(A,)`` int64 the channels that are multiplied in higher precision: a few are so large that the others
            would lose their digits (Dettmers et al. 2022, "LLM.int8()", section 3.2).
    """

    weight: Tensor
    units: Tensor
    channels: Tensor
    middles: Tensor
    apart: Tensor

    def fits(self, weight: Tensor) -> bool:
        """Whether it can be what a weight ``(O, I)`` became: kernels read as much as that says."""
        (outputs, inputs), within = weight.shape, (self.apart >= 0) & (self.apart < weight.shape[1])
        floats = ((self.units, outputs), (self.channels, inputs), (self.middles, inputs))
        return (
            (self.weight.shape, self.weight.dtype) == (weight.shape, torch.int8)
            and all((one.shape, one.dtype) == ((count,), torch.float32) for one, count in floats)
            and (self.apart.ndim, self.apart.dtype) == (1, torch.int64)
            and bool(within.all())
        )


def plain(weight: Tensor) -> Rounded:
    """A weight rounded to the nearest, of inputs as they are."""
    units = weight.abs().amax(1).clamp(min=1e-12) / 127
    whole = (weight / units[:, None]).round().to(torch.int8)
    width = weight.shape[1]
    apart = torch.zeros(0, dtype=torch.int64, device=weight.device)
    return Rounded(whole, units, weight.new_ones(width), weight.new_zeros(width), apart)


@cache
def can_int8() -> bool:
    """Whether this torch multiplies int8 by its own fast operator here, and rightly: a small product is tried."""
    draw = torch.Generator().manual_seed(0)
    weight, x = torch.randn(16, 32, generator=draw, **FLOATS), torch.rand(4, 32, generator=draw, **FLOATS)
    try:
        with torch.inference_mode():
            layer = Int8Linear(weight, None, plain(weight), torch.float32)
            found, summed = layer(x), layer.plus(x, torch.ones(4, 16, **FLOATS))
    except (AttributeError, RuntimeError):  # an operator without a promise to stay
        return False
    exact = x @ weight.t()
    return bool((found - exact).abs().max() < 0.2 and (summed - exact - 1).abs().max() < 0.2)


class Int8Linear(nn.Module):
    """A linear layer whose product is computed in int8, by our own kernel where there is one, else by oneDNN.

    Args:
        weight: ``(O, I)`` float32, as it was.
        bias: ``(O,)``, or None.
        rounded: What it became.
        dtype: What comes out: float32, bfloat16 or float16.
        activation: Applied to what comes out; a name in `ACTIVATIONS`, or None.

    Raises:
        BothwaysError: What was rounded is not this weight.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        rounded: Rounded,
        dtype: torch.dtype,
        activation: str | None = None,
    ) -> None:
        super().__init__()
        if not rounded.fits(weight):
            raise BothwaysError("what is kept of this model in int8 belongs to other weights; quantize it again")
        self.out_features, self.in_features = weight.shape
        self.dtype, self._activation = dtype, activation
        always = weight.detach().float() @ rounded.middles  # what they contribute is the same for every text
        self.bias = always if bias is None else bias.detach().float() + always
        self._apart = rounded.apart if len(rounded.apart) else None
        self._by = 1 / rounded.channels
        self._by[rounded.apart] = 0
        self._shift = -rounded.middles * self._by
        few = weight.detach()[:, rounded.apart].to(multiplied(dtype)).contiguous()
        units, of_lows = rounded.units, rounded.units * rounded.weight.sum(1)
        self._of_lows = of_lows
        ours = kernels()
        self._ours = ours if ours is not None and ours.multiplies(rounded.weight, activation) else None
        if self._ours is not None:
            self._weight = self._ours.packed(rounded.weight)
            self._whole = Whole(units, of_lows, None if self._apart is None else self._ours.packed(few))
        else:
            self._weight = torch.ops.onednn.qlinear_prepack(rounded.weight, None)
            self._whole = Whole(units, of_lows, few.float())
            self._zeros = torch.zeros(self.out_features, dtype=torch.int64, device="cpu")

    @property
    def any_shape(self) -> bool:
        """As `PackedLinear.any_shape`."""
        return self._ours is not None

    def levels(self, x_TI: Tensor) -> Levels:
        """The input in bytes, and what stays apart in the layer's type."""
        x_TI = x_TI if self._apart is None else x_TI.to(self.dtype)
        if self._ours is not None and self._ours.reads(x_TI):
            return self._ours.rounded(x_TI, self._by, self._shift, self._apart)
        few = None if self._apart is None else x_TI.index_select(-1, self._apart).to(multiplied(self.dtype))
        x_TI = torch.addcmul(self._shift, x_TI.float(), self._by)
        low, high = x_TI.amin(-1).clamp_(max=0), x_TI.amax(-1).clamp_(min=0)
        steps = (high - low) / LEVELS
        steps = torch.where(steps > 0, steps, torch.ones_like(steps))
        whole = ((x_TI - low[..., None]) / steps[..., None]).round_().clamp_(0, LEVELS)
        return Levels(whole.to(torch.uint8), steps.contiguous(), low.contiguous(), few)

    def forward(self, x_TI: Tensor) -> Tensor:
        """From ``(T, I)`` to ``(T, O)``."""
        return self.product(self.levels(x_TI), self._activation)

    def plus(self, x_TI: Tensor, other_TO: Tensor) -> Tensor:
        """What `forward` gives, without activation, and another ``(T, O)`` added to it."""
        return self.product(self.levels(x_TI), None, other_TO.to(self.dtype))

    def product(self, levels: Levels, activation: str | None, added: Tensor | None = None) -> Tensor:
        """What is made of the input's `levels`."""
        if self._ours is not None:
            return self._ours.linear(
                *(levels, self._weight, self.bias, self.dtype), activation=activation, added=added, whole=self._whole
            )
        sums: Tensor = torch.ops.onednn.qlinear_pointwise(
            *(levels.levels, 1.0, 0, self._weight, self._whole.units, self._zeros, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )
        assert levels.lows is not None  # of bytes
        out = sums * levels.steps[..., None] + self.bias
        out += levels.lows[..., None] * self._of_lows
        if levels.few is not None and self._whole.few is not None:
            out += levels.few.float() @ self._whole.few.t()
        out = (out if activation is None else ACTIVATIONS[activation](out)).to(self.dtype)
        return out if added is None else out + added
