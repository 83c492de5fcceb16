"""Linear layers in whole numbers of 16 bits: as fast as bf16 where the processor has VNNI, with the digits of float32.

Each row of a weight and each token have a scale of their own: the finest with which no sum of `PART` products can leave
32 bits, whatever the numbers are, because it is at most the product of both norms (Cauchy and Schwarz); such sums are
added up in float32. So nothing is lost but the rounding of what goes in, some ten-thousandths of the usual number.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.model.kernels.compiled import kernels
from bothways.model.kernels.functions import FLOATS, Kernels, Levels, Whole

PART = 768
"""Products whose sum the kernel keeps in 32 bits."""
NORM = 46_000.0
"""Of a part of a row, in steps, before it is rounded: the product of two, and what rounding adds, is below 2^31."""
_MOST = 32_767


def can_int16() -> bool:
    """Whether there is a kernel for it here."""
    kernel = kernels()
    return kernel is not None and kernel.levels


def multiplies_shorts(kernel: Kernels | None, weight: Tensor, activation: str | None) -> bool:
    """Whether a kernel has a product with a weight ``(O, I)`` in int16, and an activation after it."""
    if kernel is None or not kernel.reads(weight):
        return False
    return kernel.multiplies(torch.empty(weight.shape, dtype=torch.int16, device="meta"), activation)


class Int16Linear(nn.Module):
    """A linear layer whose product is computed in int16, by our own kernel.

    Args:
        weight: ``(O, I)`` float32, one that `multiplies_shorts`.
        bias: ``(O,)``, or None.
        dtype: What comes out: float32 or float16.
        activation: Applied to what comes out; one that `multiplies_shorts`, or None.
    """

    any_shape = True

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, activation: str | None = None) -> None:
        super().__init__()
        kernel = kernels()
        assert kernel is not None  # multiplies_shorts
        self.out_features, self.in_features = weight.shape
        self._kernel, self._dtype, self._activation = kernel, dtype, activation
        levels = shortened(weight.detach().float())
        self._weight, self._whole = kernel.packed(levels.levels), Whole(levels.steps)
        self._bias = torch.zeros(self.out_features, **FLOATS) if bias is None else bias.detach().float().contiguous()

    def forward(self, x_TI: Tensor) -> Tensor:
        """From ``(T, I)``, or any shape that ends in I, to ``(T, O)``."""
        return self._product(x_TI, self._activation, None)

    def plus(self, x_TI: Tensor, other_TO: Tensor) -> Tensor:
        """What `forward` gives, without activation, and another ``(T, O)`` added to it."""
        return self._product(x_TI, None, other_TO.to(self._dtype))

    def _product(self, x_TI: Tensor, activation: str | None, added: Tensor | None) -> Tensor:
        levels = self._kernel.shortened(x_TI.flatten(0, -2), NORM)
        out = self._kernel.linear(
            levels, self._weight, self._bias, self._dtype, activation=activation, added=added, whole=self._whole
        )
        return out.view(*x_TI.shape[:-1], self.out_features)


def shortened(x_RI: Tensor) -> Levels:
    """The rows of a matrix ``(R, I)`` in int16, each with a step of its own; as the kernel does it."""
    norms = torch.stack([part.double().norm(dim=1) for part in x_RI.split(PART, 1)])
    steps = torch.maximum(norms.amax(0).float() / NORM, x_RI.abs().amax(1) / _MOST)
    steps = torch.where(steps < 1e-30, torch.ones_like(steps), steps)
    return Levels((x_RI / steps[:, None]).round().to(torch.int16), steps)
