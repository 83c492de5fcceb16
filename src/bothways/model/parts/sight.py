"""Attention in which not every token sees every other: which ones, the batch says.

A token has a clock, and two times: from the first on, and until before the second, tokens see it whose clock shows it.
So a token sees those of its sequence with ``since <= clock < until``. Permuted guesses are made in this way
(`bothways.learn.objectives.permuting`); where a batch has no such times, everything sees everything.

Shapes: T tokens, H heads, K head width; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bothways.batch import Rectangle
from bothways.model.config import EncoderConfig
from bothways.model.parts.attend import in_rectangle, prefers_fused, split
from bothways.model.parts.dropout import drop

_KINDS = ("full", "buckets")
"""Kinds of attention that can: others look at windows, or add what they compute of places in a row."""


def refusal(config: EncoderConfig) -> str | None:
    """Why the tokens of an encoder cannot be hidden from each other, in one sentence; None if they can."""
    kind = config.attention.kind
    if kind in _KINDS:
        return None
    return f"tokens are hidden from each other in attention of the kinds {' and '.join(_KINDS)}, not {kind}"


def attend_in_sight(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    plan: Sequence[Rectangle],
    sight_3T: Tensor,
    scale: float,
    *,
    dropout: float = 0.0,
    added: Sequence[Tensor] | None = None,
) -> Tensor:
    """Every token attends to those of its own sequence that it sees.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: The batch as rectangles, in order, covering all T tokens.
        sight_3T: ``(3, T)`` integers: the clock of each token, and since when and until when it is seen.
        scale: What the products of queries and keys are multiplied by.
        dropout: Share of attention weights that is dropped.
        added: For each rectangle of the plan what is added to its scores, ``(N, H, L, L)``.

    Returns:
        ``(T, H, K)``.
    """
    out = []
    for number, whole in enumerate(plan):
        for piece in split([whole], q_THK.shape[1]):
            tokens = slice(piece.start, piece.start + piece.tokens)
            q, k, v = (in_rectangle(x[tokens], piece) for x in (q_THK, k_THK, v_THK))
            mask = hidden(sight_3T[:, tokens], piece, q.dtype)
            if added is not None:
                first = (piece.start - whole.start) // piece.length
                mask = mask + added[number][first : first + piece.sequences]
            if prefers_fused(q):
                mixed = F.scaled_dot_product_attention(q, k, v, mask.to(q.dtype), dropout, scale=scale)
            else:
                mixed = drop(torch.softmax((q * scale) @ k.transpose(-1, -2) + mask, dim=-1), dropout) @ v
            out.append(mixed.transpose(1, 2).reshape(-1, *mixed.shape[1::2]))
    return out[0] if len(out) == 1 else torch.cat(out) if out else torch.empty_like(q_THK)


def hidden(sight_3T: Tensor, piece: Rectangle, dtype: torch.dtype) -> Tensor:
    """``(N, 1, L, L)``: 0 where the token of a row sees that of a column, minus infinity where it does not."""
    clock_NL, since_NL, until_NL = sight_3T.unflatten(1, (piece.sequences, piece.length))
    clock_NL1 = clock_NL[:, :, None]
    unseen_NLL = (since_NL[:, None] > clock_NL1) | (until_NL[:, None] <= clock_NL1)
    nothing_NLL = torch.zeros(unseen_NLL.shape, dtype=dtype, device=unseen_NLL.device)
    return nothing_NLL.masked_fill_(unseen_NLL, float("-inf"))[:, None]
