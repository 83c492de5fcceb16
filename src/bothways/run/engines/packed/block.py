"""Blocks of packed layers; each takes the place of one in the stack.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from bothways.model.parts.context import Context
from bothways.run.engines.packed.attention import PackedAttention
from bothways.run.engines.packed.feed_forward import Summing


class PackedPostNorm(nn.Module):
    """As `PostNormBlock`, with residual sums inside the products.

    Args:
        attention: The attention.
        attention_norm: The norm after it.
        feed_forward: The feed-forward layers.
        feed_forward_norm: The norm after them.
    """

    def __init__(
        self,
        attention: PackedAttention,
        attention_norm: nn.Module,
        feed_forward: Summing,
        feed_forward_norm: nn.Module,
    ) -> None:
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.feed_forward, self.feed_forward_norm = feed_forward, feed_forward_norm

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """One layer, from ``(T, D)`` to ``(T, D)``, or to ``(M, D)`` of the tokens that the context wants."""
        mixed_TD = context.wanted(self.attention.mixed(x_TD, context, layer))
        x_TD = self.attention_norm(self.attention.output.plus(mixed_TD, context.wanted(x_TD)))
        return self.feed_forward_norm(self.feed_forward.plus(x_TD, x_TD))
