"""Disentangled attention: contents look at contents, at distances, and distances at contents.

He, Liu, Gao and Chen 2020, section 3.1. Shapes: T tokens, N sequences of L tokens, R rows of the table of distances, H
heads, K head width, D = H · K model width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.model.config import DisentangledAttentionConfig
from bothways.model.parts.attend import Score
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.model.parts.distances import Distances
from bothways.model.parts.dropout import Dropout


class DisentangledAttention(Attention):
    """Adds to q·k the query's product with the distance's key and the key's product with the distance's query.

    All are divided by √(K · terms), with one, two or three terms.

    Args:
        width: D.
        settings: Which terms there are and whose projections; `DisentangledAttentionConfig` says what each means.
    """

    def __init__(self, width: int, settings: DisentangledAttentionConfig) -> None:
        super().__init__(width, settings.heads, settings.dropout, settings.bias)
        terms = 1 + settings.content_to_position + settings.position_to_content
        self.scale: float = (width / settings.heads * terms) ** -0.5
        self.content_to_position = settings.content_to_position
        self.position_to_content = settings.position_to_content
        self.position_dropout = Dropout(settings.position_dropout)
        self.position_key = self.position_query = None
        if settings.content_to_position and not settings.share_projections:
            self.position_key = nn.Linear(width, width, bias=settings.bias and not settings.fused)
        if settings.position_to_content and not settings.share_projections:
            self.position_query = nn.Linear(width, width, bias=settings.bias)

    def score(self, context: Context, layer: int) -> Score:
        """The two terms of a rectangle; distances are projected once for all rectangles."""
        distances: Distances = context.prepared
        rows_RD = self.position_dropout(distances.rows)
        key_RHK = query_RHK = None
        if self.content_to_position:
            key_RHK = self._per_head((self.position_key or self.key)(rows_RD))
        if self.position_to_content:
            query_RHK = self._per_head((self.position_query or self.query)(rows_RD))

        def terms(q_NHLK: Tensor, k_NHLK: Tensor) -> Tensor:
            length = q_NHLK.shape[2]
            added = []
            if key_RHK is not None:
                added.append(by_distance(q_NHLK, key_RHK[distances.falling(length)]))
            if query_RHK is not None:
                added.append(by_distance(k_NHLK, query_RHK[distances.rising(length)]).transpose(2, 3))
            return added[0] if len(added) == 1 else added[0] + added[1]

        return terms

    def _per_head(self, rows_RD: Tensor) -> Tensor:
        return (rows_RD * self.scale).unflatten(1, (self.heads, -1))


class FusedDisentangledAttention(DisentangledAttention):
    """The same with one projection: its rows are head 1's query, key and value, then head 2's, and so on.

    Queries and values have biases, keys and the distances' keys have none. Args: as `DisentangledAttention`.
    """

    def __init__(self, width: int, settings: DisentangledAttentionConfig) -> None:
        super().__init__(width, settings)
        del self.query, self.key, self.value
        self.fused = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width)) if settings.bias else None
        self.value_bias = nn.Parameter(torch.zeros(width)) if settings.bias else None

    def project(self, x_TD: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values ``(T, H, K)``."""
        q_THK, k_THK, v_THK = self.fused(x_TD).unflatten(1, (self.heads, -1)).chunk(3, dim=2)
        return _plus(q_THK, self.query_bias), k_THK, _plus(v_THK, self.value_bias)


def _plus(x_THK: Tensor, bias_D: Tensor | None) -> Tensor:
    return x_THK if bias_D is None else x_THK + bias_D.to(x_THK.dtype).unflatten(0, x_THK.shape[1:])


def by_distance(x_NHLK: Tensor, rows_MHK: Tensor) -> Tensor:
    """Products of each token with the row of its distance to each token.

    All products are taken and then shifted by views: a lookup of each score would cost more than the products that are
    thrown away, in the backward pass most of all.

    Args:
        x_NHLK: ``(N, H, L, K)``.
        rows_MHK: ``(2 · L, H, K)``; token a meets row b - a + L with token b.

    Returns:
        ``(N, H, L, L)``, the entry (a, b) of each matrix being the product of token a and that row.
    """
    sequences, _, length, _ = x_NHLK.shape
    x_HTK = x_NHLK.transpose(0, 1).flatten(1, 2)
    products = (x_HTK @ rows_MHK.permute(1, 2, 0)).unflatten(1, (sequences, length))  # (H, N, L, 2 L)
    # read with a stride one shorter than a row, each row begins one place further left than the one above
    shifted = products.flatten(2)[..., length:].unflatten(2, (length, 2 * length - 1))[..., :length]
    return shifted.transpose(0, 1)
