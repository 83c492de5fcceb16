"""Feed-forward layers of packed products, with the residual sum in the last.

Shapes: T tokens, D width, F inner width.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn


class Summing(Protocol):
    """A linear layer that adds a residual to what it gives."""

    def plus(self, x_TI: Tensor, other_TO: Tensor) -> Tensor:
        """From ``(T, I)`` and ``(T, O)`` to ``(T, O)``."""
        ...


class PackedFeedForward(nn.Module):
    """Two layers with an activation between.

    Args:
        inner: From ``(T, D)`` to ``(T, F)``, activated.
        outer: Back.
    """

    def __init__(self, inner: nn.Module, outer: Summing) -> None:
        super().__init__()
        self.inner, self.outer = inner, outer

    def plus(self, x_TD: Tensor, other_TD: Tensor) -> Tensor:
        """What the layers make of ``(T, D)``, and another ``(T, D)`` added to it."""
        return self.outer.plus(self.inner(x_TD), other_TD)
