"""One attention function, several kernels, over packed sequences.

Sequences of equal length are neighbours in the batch, so attention runs as a few dense rectangles without padding or
masks. `attend_one_by_one` is the reference that every kernel is tested against.

Shapes: T tokens, S sequences, H heads, K head width; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from bothways.batch import Rectangle
from bothways.model.kernels.learned import attended, learning
from bothways.model.parts.dropout import drawn_seed, drop
from bothways.model.parts.near_lengths import Group, attend_group, groups
from bothways.model.parts.padded import Padded, attend_padded
from bothways.model.parts.varlen import Edged, attend_edged, takes

Score = Callable[[Tensor, Tensor], Tensor]
"""Adds to the scores of a rectangle: from q and k ``(N, H, L, K)`` to ``(N, H, L, L)``, or what broadcasts to it."""

_MOST_SCORES = 2**24
"""A rectangle is split so that its attention weights hold at most this many numbers at a time."""


def attend(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    plan: Sequence[Rectangle],
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    score: Score | None = None,
    weights: list[Tensor] | None = None,
) -> Tensor:
    """Every token attends to every token of its own sequence.

    Vaswani et al. 2017, section 3.2: softmax(q·k / √K)·v.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: The batch as rectangles, in order, covering all T tokens.
        dropout: Share of attention weights that is dropped.
        scale: What the products of queries and keys are multiplied by; 1 / √K when not given.
        score: What a family adds to the scores.
        weights: If a list is given, the attention weights ``(H, L, L)`` of each sequence are appended to it.

    Returns:
        ``(T, H, K)``.
    """
    factor = 1 / math.sqrt(q_THK.shape[-1]) if scale is None else scale
    if isinstance(plan, Padded):
        return attend_padded(q_THK, k_THK, v_THK, plan, factor, score)
    plain = score is None and weights is None
    if plain and takes(plan, q_THK, k_THK, v_THK, dropout):
        return attend_edged(q_THK, k_THK, v_THK, cast(Edged, plan), factor, dropout=dropout)
    alike = q_THK.dtype == k_THK.dtype == v_THK.dtype  # under autocast some schemes leave queries and keys in float32
    kernel = learning(q_THK, dropout) if alike and plain else None
    longest = max((piece.length for piece in plan), default=0)
    if kernel is not None and kernel.learns(q_THK.dtype, q_THK.shape[-1], longest):
        drop_some = dropout, drawn_seed() if dropout else 0
        return attended(q_THK, k_THK, v_THK, starts_of(tuple(plan)), factor, drop_some, kernel)
    fused = prefers_fused(q_THK)
    holds_none = plain and fused and q_THK.device.type == "cuda"  # the kernel there keeps no scores
    pieces: Sequence[Rectangle | Group] = plan if holds_none else split(plan, q_THK.shape[1])
    if plain and not fused and len(pieces) > 1:
        pieces = groups(tuple(cast(Sequence[Rectangle], pieces)), q_THK.shape[1])
    sizes = [piece.tokens for piece in pieces]
    parts = zip(pieces, q_THK.split(sizes), k_THK.split(sizes), v_THK.split(sizes), strict=True)
    by_torch = _fused if plain and fused else _dense
    out = [
        attend_group(q, k, v, piece, dropout, factor)
        if isinstance(piece, Group)
        else by_torch(q, k, v, piece, dropout, factor, score, weights)
        for piece, q, k, v in parts
    ]
    if not out:
        return torch.empty_like(q_THK)  # a batch without tokens
    return out[0] if len(out) == 1 else torch.cat(out)


@lru_cache(maxsize=16)
def starts_of(plan: tuple[Rectangle, ...]) -> np.ndarray:
    """``(S + 1,)`` where each sequence of a plan begins."""
    begins = [start + length * number for start, sequences, length in plan for number in range(sequences)]
    return np.array([*begins, plan[-1].start + plan[-1].tokens if plan else 0], dtype=np.int64)


def split(plan: Sequence[Rectangle], heads: int) -> list[Rectangle]:
    """A plan whose rectangles hold no more attention weights than memory should."""
    pieces = []
    for start, sequences, length in plan:
        step = max(1, _MOST_SCORES // (heads * length * length))
        pieces += [
            Rectangle(start + first * length, min(step, sequences - first), length)
            for first in range(0, sequences, step)
        ]
    return pieces


def prefers_fused(q: Tensor) -> bool:
    """On a GPU torch's fused kernel wins; on a CPU plain products do, and their dropout is several times cheaper."""
    return q.device.type != "cpu"


def _dense(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    piece: Rectangle,
    dropout: float,
    scale: float,
    score: Score | None,
    weights: list[Tensor] | None,
) -> Tensor:
    q, k, v = (in_rectangle(x, piece) for x in (q, k, v))
    scores = (q * scale) @ k.transpose(-1, -2)  # (N, H, L, L)
    if score is not None:
        scores = scores + score(q, k)
    shares = torch.softmax(scores, dim=-1)
    if weights is not None:
        weights.extend(shares.unbind(0))
    out = drop(shares, dropout) @ v  # (N, H, L, K)
    return out.transpose(1, 2).reshape(-1, *out.shape[1::2])


def _fused(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    piece: Rectangle,
    dropout: float,
    scale: float,
    score: Score | None,
    weights: list[Tensor] | None,
) -> Tensor:
    q, k, v = (in_rectangle(x, piece) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
    return out.transpose(1, 2).reshape(-1, *out.shape[1::2])


def in_rectangle(x: Tensor, piece: Rectangle) -> Tensor:
    """From ``(N · L, H, K)`` to ``(N, H, L, K)``, a view."""
    return x.unflatten(0, (piece.sequences, piece.length)).transpose(1, 2)


def attend_one_by_one(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    starts: Sequence[int],
    score: Score | None = None,
    scale: float | None = None,
) -> Tensor:
    """The reference: the same as `attend`, one sequence at a time, in the plainest way.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        starts: ``(S + 1,)`` where each sequence begins.
        score: What a family adds to the scores.
        scale: What the products are multiplied by; 1 / √K when not given.

    Returns:
        ``(T, H, K)``.
    """
    out = []
    for a, b in itertools.pairwise(starts):
        q, k, v = (x[a:b].transpose(0, 1) for x in (q_THK, k_THK, v_THK))  # (H, L, K)
        factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        scores = torch.einsum("hqk,hpk->hqp", q, k)[None] * factor  # (1, H, L, L)
        if score is not None:
            scores = scores + score(q[None], k[None])
        out.append(torch.einsum("hqp,hpk->hqk", scores[0].softmax(-1), v).transpose(0, 1))
    return torch.cat(out)
