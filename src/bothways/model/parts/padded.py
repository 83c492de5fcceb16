"""Attention over one padded rectangle, in the plainest way: what exported graphs compute.

Packed batches have no padding and a plan that changes with every batch. A graph that other runtimes run has fixed
operations instead: its batch is one rectangle whose rows are filled up, and a mask says what is real.

Shapes: N sequences of L tokens, padding counted; H heads, K head width; T = N · L.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bothways.batch import Rectangle

if TYPE_CHECKING:
    from bothways.model.parts.attend import Score

HIDDEN = -3e4
"""Added to the score of what is not seen: its weight is then exactly 0, in half precision too, and a row of padding
that sees nothing at all still has a softmax."""


class Padded(tuple[Rectangle, ...]):
    """A plan of one rectangle with padding.

    Attributes:
        mask: ``(N, 1, 1, L)``: 0 at real tokens, `HIDDEN` at padding.
        real: ``(N, L)`` floats: 1 at real tokens, 0 at padding.
    """

    mask: Tensor
    real: Tensor

    @classmethod
    def of(cls, attention_mask_NL: Tensor) -> Padded:
        """The plan of a rectangle.

        Args:
            attention_mask_NL: ``(N, L)`` 1 at real tokens, 0 at padding.
        """
        sequences, length = attention_mask_NL.shape
        plan = cls((Rectangle(0, sequences, length),))
        plan.real = attention_mask_NL.to(torch.float32)
        plan.mask = ((1 - plan.real) * HIDDEN)[:, None, None]
        return plan

    def rectangle(self, x_T: Tensor) -> Tensor:
        """From ``(T, ...)`` to ``(N, L, ...)``, a view."""
        _, sequences, length = self[0]
        return x_T.unflatten(0, (sequences, length))


def attend_padded(
    q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, plan: Padded, scale: float, score: Score | None = None, window: int = 0
) -> Tensor:
    """Every token attends to the real tokens of its own sequence.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: The rectangle.
        scale: What the products of queries and keys are multiplied by.
        score: What a family adds to the scores.
        window: How far a token sees to either side; 0 for all the way.

    Returns:
        ``(T, H, K)``; rows of padding hold numbers without a meaning.
    """
    q, k, v = (plan.rectangle(x).transpose(1, 2) for x in (q_THK, k_THK, v_THK))  # (N, H, L, K)
    scores = (q * scale) @ k.transpose(-1, -2)
    if score is not None:
        scores = scores + score(q, k)
    scores = scores + plan.mask
    if window:
        places = torch.arange(plan[0].length, device=q.device)
        far_LL = (places - places[:, None]).abs() > window
        scores = scores + far_LL.to(scores.dtype) * HIDDEN
    return (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).flatten(0, 1)
