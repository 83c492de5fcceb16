"""Attention with its projections.

Shapes: T tokens, H heads, K head width, D = H · K model width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bothways.batch import Rectangle
from bothways.model.parts.attend import attend


class Attention(nn.Module):
    """Multi-head self-attention, every token to every token of its sequence.

    Args:
        width: D.
        heads: H.
        dropout: Share of attention weights dropped in training.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x_TD: Tensor, plan: Sequence[Rectangle], weights: list[Tensor] | None = None) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            x_TD: ``(T, D)`` hidden states.
            plan: The batch as rectangles.
            weights: If a list is given, the attention weights ``(H, L, L)`` of each sequence are appended to it.

        Returns:
            ``(T, D)``.
        """
        q_THK, k_THK, v_THK = (
            layer(x_TD).unflatten(1, (self.heads, -1)) for layer in (self.query, self.key, self.value)
        )
        rate = self.dropout if self.training else 0.0
        return self.output(attend(q_THK, k_THK, v_THK, plan, dropout=rate, weights=weights).flatten(1))
