"""The feed-forward layers of a block.

Shapes: T tokens, D model width, F inner width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.kernels.learned import gelu
from bothways.model.parts.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between, for each token alone.

    Args:
        width: D.
        inner_width: F.
        activation: A name in `ACTIVATIONS`.
        bias: Whether the layers have biases.
        dropout: Share of inner values dropped in training.
    """

    def __init__(self, width: int, inner_width: int, activation: str, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner = nn.Linear(width, inner_width, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Linear(inner_width, width, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor) -> Tensor:
        """From ``(T, D)`` to ``(T, D)``."""
        return self.output(self.dropout(self.activation(self.inner(x_TD))))


class GatedFeedForward(FeedForward):
    """The first layer is twice as wide; its activated first half multiplies the second (Shazeer 2020, "GLU variants").

    Args: as `FeedForward`.
    """

    def __init__(self, width: int, inner_width: int, activation: str, bias: bool = True, dropout: float = 0.0) -> None:
        super().__init__(width, inner_width, activation, bias, dropout)
        self.inner = nn.Linear(width, 2 * inner_width, bias=bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        """From ``(T, D)`` to ``(T, D)``."""
        shaped_TF, gate_TF = self.inner(x_TD).chunk(2, dim=-1)
        return self.output(self.dropout(self.activation(shaped_TF) * gate_TF))
