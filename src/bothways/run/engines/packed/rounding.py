"""Rounding of weights to int8, so that the products with real inputs change least.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.run.engines.packed.int8 import Rounded

_SHARE = 0.5
"""Of the difference between channels that moves into the weights (Xiao et al. 2023, "SmoothQuant", section 4)."""
_DAMPED, _TOGETHER, _LEAST = 0.01, 64, 1e-5


class Inputs:
    """What is known of a layer's inputs: as much as rounding asks, whatever their number.

    Attributes:
        count: How many there were.
        low: ``(I,)`` the least of each channel.
        high: ``(I,)`` the largest.
    """

    def __init__(self) -> None:
        self.count = 0

    def add(self, x_TI: Tensor) -> None:
        """Takes some inputs into account."""
        low, high = x_TI.amin(0), x_TI.amax(0)
        if not self.count:  # sums of what lies around 0 lose no digits
            self._near, self.low, self.high = x_TI.mean(0), low, high
            self._sum, self._products = torch.zeros_like(low), low.new_zeros(len(low), len(low))
        x_TI = x_TI - self._near
        self.low, self.high = torch.minimum(self.low, low), torch.maximum(self.high, high)
        self.count += len(x_TI)
        self._sum += x_TI.sum(0)
        self._products += x_TI.t() @ x_TI

    @property
    def means(self) -> Tensor:
        """``(I,)`` of each channel."""
        return self._near + self._sum / self.count

    @property
    def products(self) -> Tensor:
        """``(I, I)`` float64 sums of the products of two channels, each less its mean."""
        total = self._sum.double()
        return self._products.double() - torch.outer(total, total) / self.count


def rounded(inputs: Inputs, weight: Tensor, apart: int = 0) -> Rounded:
    """A weight in int8.

    Channels are moved by their means first: a norm gives some of them a large part that is nearly the same for every
    token (Wei et al. 2023, "Outlier Suppression+", section 4.1). Then they are brought nearer to one range.

    Args:
        inputs: Of the layer, on real texts.
        weight: ``(O, I)`` float32.
        apart: How many channels stay as they are: those that are still the largest then.
    """
    middles = inputs.means
    reach = torch.maximum(inputs.high - middles, middles - inputs.low).clamp(min=_LEAST)
    channels = reach**_SHARE / weight.abs().amax(0).clamp(min=_LEAST) ** (1 - _SHARE)
    largest = (reach / channels).topk(apart).indices.sort().values
    middles[largest] = 0
    held = torch.ones(len(channels), dtype=torch.bool)
    held[largest] = False
    scales = channels[held].double()
    products = inputs.products[held][:, held] / scales / scales[:, None]
    whole = torch.zeros(weight.shape, dtype=torch.int8)
    whole[:, held], units = least_changed(products, weight[:, held] * channels[held])
    return Rounded(whole, units, channels, middles, largest)


def least_changed(products: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds a channel at a time, and lets those that are not rounded yet make up for what it changed.

    Frantar et al. 2023, "GPTQ", section 3, with the channels that weigh most first.

    Args:
        products: ``(I, I)`` float64 sums of the products of the channels of real inputs.
        weight: ``(O, I)`` float32.

    Returns:
        ``(O, I)`` int8, and ``(O,)`` what 1 is worth in each row.
    """
    left, together = weight.detach().double(), products.clone()
    units = left.abs().amax(1).clamp(min=1e-12) / 127
    together.diagonal().add_(_DAMPED * together.diagonal().mean() + 1e-12)
    order = together.diagonal().argsort(descending=True)
    left, together = left[:, order], together[order][:, order]
    by = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(together)), upper=True)
    whole = torch.zeros_like(left)
    for first in range(0, left.shape[1], _TOGETHER):  # the many channels after these learn of all of them at once
        last = min(first + _TOGETHER, left.shape[1])
        errors = torch.zeros(len(left), last - first, dtype=left.dtype)
        for at in range(first, last):
            whole[:, at] = (left[:, at] / units).round().clamp(-127, 127)
            errors[:, at - first] = (left[:, at] - whole[:, at] * units) / by[at, at]
            left[:, at + 1 : last] -= errors[:, at - first, None] * by[at, at + 1 : last]
        left[:, last:] -= errors @ by[first:last, last:]
    out = torch.empty_like(whole)
    out[:, order] = whole
    return out.to(torch.int8), units.float()
