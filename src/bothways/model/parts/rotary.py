"""Rotary positions: queries and keys are turned, so that their products depend on distances alone.

Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", section 3.2. Value n of a head's K
values and value n + K / 2 are a point in the plane, turned at position p by the angle p / base^(2n / K).

Shapes: T tokens, H heads, K head width, D = H · K model width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bothways.model.parts.attend import attend
from bothways.model.parts.context import Context
from bothways.model.parts.dropout import Dropout
from bothways.model.parts.windowed import attend_window

Turns = dict[float, tuple[Tensor, Tensor]]
"""For each base the cosine and sine ``(T, K / 2)`` of every token's angles."""


class RotaryScheme(nn.Module):
    """The angles of a batch's positions, computed once for all layers that have the same base.

    Args:
        width: K, the heads' width, an even number.
        bases: Of the angles; the larger one is, the slower they grow.
    """

    def __init__(self, width: int, bases: Sequence[float]) -> None:
        super().__init__()
        self.width, self.bases = width, tuple(dict.fromkeys(bases))

    def prepare(self, context: Context) -> Turns:
        """Cosine and sine ``(T, K / 2)`` for each base, float32."""
        return {base: self._turns(context.positions, base) for base in self.bases}

    def _turns(self, positions_T: Tensor, base: float) -> tuple[Tensor, Tensor]:
        exponents = torch.arange(0, self.width, 2, dtype=torch.float32, device=positions_T.device) / self.width
        angles_TK = positions_T[:, None].float() * (1.0 / base**exponents)
        return angles_TK.cos(), angles_TK.sin()


def turn(x_TNHK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turns the values of each head by its token's angles.

    Args:
        x_TNHK: ``(T, ..., K)``.
        cos_TK: ``(T, K / 2)`` cosines of the angles.
        sin_TK: ``(T, K / 2)`` sines.

    Returns:
        The same shape and type; computed in float32 at least.
    """
    between = (1,) * (x_TNHK.ndim - 2)
    cos, sin = (table.view(table.shape[0], *between, table.shape[1]) for table in (cos_TK, sin_TK))
    a, b = x_TNHK.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).to(x_TNHK.dtype)


class RotaryAttention(nn.Module):
    """Multi-head self-attention with turned queries and keys; in some layers tokens see only their neighbours.

    Warner et al. 2024, section 2.1.2. Queries, keys and values are one projection.

    Args:
        width: D.
        heads: H.
        dropout: Share of attention weights, and of the output's values, dropped in training.
        bias: Whether the projections have biases.
        base: Of the angles in layers where every token looks at every token.
        local_base: Of the angles in layers with a window.
        windows: How far a token sees to either side, layer by layer and over again; 0 for all the way.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        bias: bool,
        base: float,
        local_base: float,
        windows: Sequence[int],
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.base, self.local_base, self.windows = base, local_base, tuple(windows)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.output = nn.Linear(width, width, bias=bias)
        self.output_dropout = Dropout(dropout)

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """Mixes the tokens of each sequence.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share; ``prepared`` holds the angles.
            layer: The layer's number, from 0.

        Returns:
            ``(T, D)``, or ``(M, D)`` of the tokens that the context wants.
        """
        qkv, window = self.project(x_TD, context, layer), self._window(layer)
        dropout, weights = self.dropout if self.training else 0.0, context.weights(layer)
        if window:
            mixed_THK = attend_window(*qkv, context.plan, window, dropout=dropout, weights=weights)
        else:
            mixed_THK = attend(*qkv, context.plan, dropout=dropout, weights=weights)
        return self.output_dropout(self.output(context.wanted(mixed_THK.flatten(1))))

    def project(self, x_TD: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries, turned keys, and values ``(T, H, K)``."""
        turns: Turns = context.prepared
        qkv_T3HK = self.qkv(x_TD).unflatten(1, (3, self.heads, -1))
        q_THK, k_THK = turn(qkv_T3HK[:, :2], *turns[self.local_base if self._window(layer) else self.base]).unbind(1)
        return q_THK, k_THK, qkv_T3HK[:, 2]

    def _window(self, layer: int) -> int:
        return self.windows[layer % len(self.windows)]
