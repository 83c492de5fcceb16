"""Attention that looks one way only.

Shapes: N sequences of L tokens in a rectangle, H heads, K head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.model.parts.attend import Score
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context


class CausalAttention(Attention):
    """No token looks at a later one (Vaswani et al. 2017, section 3.2.3; Radford et al. 2018).

    Args: as `Attention`.
    """

    def score(self, context: Context, layer: int) -> Score:
        """Minus infinity for every later token, so that its weight is exactly 0."""
        return none_later


def none_later(q_NHLK: Tensor, k_NHLK: Tensor) -> Tensor:
    """``(L, L)``: 0 at and before a token's place, minus infinity behind it."""
    length = q_NHLK.shape[-2]
    return torch.full((length, length), float("-inf"), dtype=q_NHLK.dtype, device=q_NHLK.device).triu(1)
