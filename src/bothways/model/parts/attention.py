"""Attention with its projections.

Shapes: T tokens, H heads, K head width, D = H · K model width.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from bothways.model.parts.attend import Score, attend
from bothways.model.parts.context import Context
from bothways.model.parts.sight import attend_in_sight


class Attention(nn.Module):
    """Multi-head self-attention, every token to every token of its sequence.

    Other kinds of attention override `project` (what queries, keys and values are) or `score` (what is added to their
    products).

    Args:
        width: D.
        heads: H.
        dropout: Share of attention weights dropped in training.
        bias: Whether the projections have biases.
    """

    def __init__(self, width: int, heads: int, dropout: float, bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.scale: float | None = None  # of the products; 1 / √K
        self.query = nn.Linear(width, width, bias=bias)
        self.key = nn.Linear(width, width, bias=bias)
        self.value = nn.Linear(width, width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share.
            layer: The layer's number, from 0.

        Returns:
            ``(T, D)``, or ``(M, D)`` of the tokens that the context wants.
        """
        mixed_TD = self.mix(*self.project(x_TD, context, layer), context, layer)
        return self.output(context.wanted(mixed_TD))

    def mix(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, context: Context, layer: int) -> Tensor:
        """The mixed values ``(T, D)`` of queries, keys and values ``(T, H, K)``."""
        dropout = self.dropout if self.training else 0.0
        if context.sight is not None:
            factor = 1 / math.sqrt(q_THK.shape[-1]) if self.scale is None else self.scale
            seen = context.plan, context.sight, factor
            return attend_in_sight(q_THK, k_THK, v_THK, *seen, dropout=dropout, added=context.prepared).flatten(1)
        mixed_THK = attend(
            q_THK,
            k_THK,
            v_THK,
            context.plan,
            dropout=dropout,
            scale=self.scale,
            score=self.score(context, layer),
            weights=context.weights(layer),
        )
        return mixed_THK.flatten(1)

    def project(self, x_TD: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(T, H, K)``."""
        q_THK, k_THK, v_THK = (
            projection(x_TD).unflatten(1, (self.heads, -1)) for projection in (self.query, self.key, self.value)
        )
        return q_THK, k_THK, v_THK

    def score(self, context: Context, layer: int) -> Score | None:
        """What is added to the scores of a rectangle; nothing here."""
        return None
