"""Attention within a window, and global tokens with projections of their own (Beltagy et al. 2020, section 3.1).

Shapes: T tokens, P global tokens, H heads, K head width, D = H · K model width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.model.parts.global_tokens import GlobalTokens, attend_global
from bothways.model.parts.windowed import attend_window


class WindowAttention(Attention):
    """A token attends to its neighbours and to the global tokens; a global token to all of its sequence.

    Args:
        width: D.
        heads: H.
        dropout: Share of attention weights dropped in training.
        bias: Whether the projections have biases.
        windows: For each layer how far a token sees to either side; a single one holds for all layers.
    """

    def __init__(self, width: int, heads: int, dropout: float, bias: bool, windows: Sequence[int]) -> None:
        super().__init__(width, heads, dropout, bias)
        self.windows = tuple(windows)
        self.global_query = nn.Linear(width, width, bias=bias)
        self.global_key = nn.Linear(width, width, bias=bias)
        self.global_value = nn.Linear(width, width, bias=bias)

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share; ``prepared`` holds the global tokens, None if the batch has none.
            layer: The layer's number, from 0.

        Returns:
            ``(T, D)``, or ``(M, D)`` of the tokens that the context wants.
        """
        chosen: GlobalTokens | None = context.prepared
        dropout, weights = self.dropout if self.training else 0.0, context.weights(layer)
        window = self.windows[layer % len(self.windows)]
        qkv = self.project(x_TD, context, layer)
        mixed_THK = attend_window(*qkv, context.plan, window, dropout=dropout, weights=weights, chosen=chosen)
        if chosen is not None:
            qkv = self.project_global(x_TD, chosen)
            seen_PHK = attend_global(*qkv, context.plan, chosen, dropout=dropout, weights=weights)
            mixed_THK = mixed_THK.index_copy(0, chosen.tokens, seen_PHK.to(mixed_THK.dtype))
        return self.output(context.wanted(mixed_THK.flatten(1)))

    def project_global(self, x_TD: Tensor, chosen: GlobalTokens) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(P, H, K)`` of the global tokens; keys and values ``(T, H, K)`` that only they see."""
        projected = (self.global_query(x_TD[chosen.tokens]), self.global_key(x_TD), self.global_value(x_TD))
        q_PHK, k_THK, v_THK = (x.unflatten(1, (self.heads, -1)) for x in projected)
        return q_PHK, k_THK, v_THK
