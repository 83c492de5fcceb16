"""The feed-forward layers of a block.

Shapes: T tokens, D model width, F inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between, for each token alone.

    Args:
        width: D.
        inner_width: F.
        activation: A name in `ACTIVATIONS`.
    """

    def __init__(self, width: int, inner_width: int, activation: str) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner_width)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Linear(inner_width, width)

    def forward(self, x_TD: Tensor) -> Tensor:
        """From ``(T, D)`` to ``(T, D)``."""
        return self.output(self.activation(self.inner(x_TD)))
