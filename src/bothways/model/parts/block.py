"""A block: attention and feed-forward, each added to what came in and normed.

Shapes: T tokens, D model width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bothways.batch import Rectangle
from bothways.model.parts.dropout import Dropout


class PostNormBlock(nn.Module):
    """The block of Vaswani et al. 2017 and BERT: the norm stands after the sum.

    Args:
        attention: From ``(T, D)`` and the plan to ``(T, D)``.
        feed_forward: From ``(T, D)`` to ``(T, D)``.
        width: D.
        norm_eps: Epsilon of both norms.
        dropout: Share of values dropped before each sum, in training.
    """

    def __init__(
        self, attention: nn.Module, feed_forward: nn.Module, width: int, norm_eps: float, dropout: float
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, plan: Sequence[Rectangle], weights: list[Tensor] | None = None) -> Tensor:
        """One layer.

        Args:
            x_TD: ``(T, D)`` hidden states.
            plan: The batch as rectangles.
            weights: If a list is given, attention weights are appended to it.

        Returns:
            ``(T, D)``.
        """
        x_TD = self.attention_norm(x_TD + self.dropout(self.attention(x_TD, plan, weights)))
        return self.feed_forward_norm(x_TD + self.dropout(self.feed_forward(x_TD)))
