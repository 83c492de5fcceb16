"""Dropout whose masks cost little on a CPU.

torch draws CPU dropout masks one number at a time in one thread, which takes longer than the matrix products around
them. Where there is a kernel of ours (`bothways.model.kernels`), it draws them, and again for the gradient instead of
keeping them. Elsewhere 15 random bits decide each value, four values from one 64-bit draw of a small counter-seeded
generator, and the comparison is integer arithmetic that vectorises. Both are seeded from torch's own generator, so
`torch.manual_seed` still decides every mask.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bothways.model.kernels.learned import dropped, learning

_BITS = 15
_SIGN = {torch.bfloat16: torch.int16, torch.float16: torch.int16}


def drop(values: Tensor, rate: float) -> Tensor:
    """Sets a share of the values to zero and scales the others up, so that the mean stays.

    Args:
        values: Any shape, floating point.
        rate: The share that is dropped, to a precision of 2**-15 on a CPU.

    Returns:
        The same shape and type; gradients flow through what was kept.
    """
    if rate == 0.0 or values.numel() == 0:
        return values
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(values, rate)
    kernel = learning(values, rate)
    if kernel is not None:
        return dropped(values, (rate, drawn_seed()), kernel)
    return values * _mask(values.shape, rate, values.dtype)


def drawn_seed() -> int:
    """What decides a mask, from torch's own generator."""
    return int(torch.randint(2**62, (), dtype=torch.int64))


def _mask(shape: torch.Size, rate: float, dtype: torch.dtype) -> Tensor:
    """0 where a value is dropped, 1 / (1 - rate) where it is kept."""
    count = shape.numel()
    threshold = min(round(rate * 2**_BITS), 2**_BITS - 1)
    source = np.random.Generator(np.random.SFC64(drawn_seed()))
    bits = torch.from_numpy(source.integers(2**64, size=(count + 3) // 4, dtype=np.uint64).view(np.int16)[:count])
    dropped = bits.bitwise_and_(2**_BITS - 1).sub_(threshold).bitwise_right_shift_(15)  # -1 if dropped, 0 if kept
    scale = torch.tensor(2**_BITS / (2**_BITS - threshold), dtype=dtype)
    if dtype in _SIGN:  # write the bits of the scale, or of zero, straight into the mask
        return dropped.bitwise_not_().bitwise_and_(int(scale.view(torch.int16))).view(dtype).view(shape)
    return dropped.add_(1).to(dtype).mul_(scale).view(shape)


class Dropout(nn.Module):
    """`drop` as a module: active in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, values: Tensor) -> Tensor:
        """Drops a share of the values in training, returns them unchanged otherwise. Any shape."""
        return drop(values, self.rate) if self.training else values

    def extra_repr(self) -> str:
        """The rate, for printing."""
        return f"{self.rate}"
