"""Attention over sequences of nearly equal length at once: a few small rectangles become one, padded and masked.

Short texts of many lengths make many rectangles of a few sequences each, and what a rectangle costs is then the calls,
not the arithmetic. Neighbours are put together while the padding costs less than the calls that it saves.

Shapes: T tokens of N sequences, the longest L; H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.batch import Rectangle
from bothways.model.parts.dropout import drop

_SAVED = 2**16
"""Attention weights that take about as long as the calls of one rectangle, forward and backward."""


class Group(NamedTuple):
    """Neighbouring rectangles that are run as one.

    Attributes:
        start: Their first token.
        tokens: T.
        places: ``(N · L,)`` the token, counted from `start`, at each place of the padded rectangle; padding repeats the
            sequence's last token.
        real: ``(T,)`` the place of each token.
        shape: N and L.
        mask: ``(N, 1, 1, L)`` 0 at tokens, -inf at padding.
    """

    start: int
    tokens: int
    places: Tensor
    real: Tensor
    shape: tuple[int, int]
    mask: Tensor


@lru_cache(maxsize=16)
def groups(plan: tuple[Rectangle, ...], heads: int) -> tuple[Rectangle | Group, ...]:
    """A plan with neighbours put together where that pays.

    Args:
        plan: Rectangles in order of length.
        heads: H.
    """
    found: list[list[Rectangle]] = []
    for piece in plan:
        if found and piece.length >= found[-1][-1].length and _waste([*found[-1], piece], heads) <= _SAVED:
            found[-1].append(piece)
        else:
            found.append([piece])
    return tuple(pieces[0] if len(pieces) == 1 else _group(pieces) for pieces in found)


def _waste(pieces: Sequence[Rectangle], heads: int) -> int:
    """Attention weights of padding where the last rectangle joins the others."""
    before, last = pieces[:-1], pieces[-1]
    count = sum(piece.sequences for piece in before)
    return heads * count * (last.length**2 - before[-1].length ** 2)


@torch.inference_mode(False)  # groups are kept, and training may use what was made for an answer
def _group(pieces: Sequence[Rectangle]) -> Group:
    lengths = torch.tensor([piece.length for piece in pieces for _ in range(piece.sequences)])
    longest = int(lengths[-1])
    begins = lengths.cumsum(0) - lengths
    column = torch.arange(longest)
    places = begins[:, None] + torch.minimum(column, lengths[:, None] - 1)
    inside = column < lengths[:, None]
    mask = torch.zeros(inside.shape).masked_fill_(~inside, float("-inf"))
    real = inside.flatten().nonzero().squeeze(1)
    shape = (len(lengths), longest)
    return Group(pieces[0].start, int(lengths.sum()), places.flatten(), real, shape, mask[:, None, None])


def attend_group(q: Tensor, k: Tensor, v: Tensor, group: Group, dropout: float, scale: float) -> Tensor:
    """Attention within the sequences of a group.

    Args:
        q: ``(T, H, K)`` queries of the group's tokens.
        k: ``(T, H, K)`` keys.
        v: ``(T, H, K)`` values.
        group: The group.
        dropout: Share of attention weights that is dropped.
        scale: What the products of queries and keys are multiplied by.

    Returns:
        ``(T, H, K)``.
    """
    padded = _Pad.apply(torch.stack((q * scale, k, v), 1), group.places, group.real)
    q, k, v = padded.unflatten(0, group.shape).transpose(1, 3).unbind(2)  # each (N, H, L, K)
    shares = torch.softmax(q @ k.transpose(-1, -2) + group.mask.to(q.dtype), dim=-1)
    out = (drop(shares, dropout) @ v).transpose(1, 2).flatten(0, 1)  # (N · L, H, K)
    taken: Tensor = _Unpad.apply(out, group.real)
    return taken


class _Pad(torch.autograd.Function):
    """Values at the places of the padded rectangle. Nothing that is computed from padding has a gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, places: Tensor, real: Tensor) -> Tensor:
        ctx.save_for_backward(real)
        return values.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, ctx.saved_tensors[0]), None, None


class _Unpad(torch.autograd.Function):
    """The values of tokens, without those of padding."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, real: Tensor) -> Tensor:
        ctx.save_for_backward(real)
        ctx.places = len(values)
        return values.index_select(0, real)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.places, *gradient.shape[1:])
        return whole.index_copy_(0, ctx.saved_tensors[0], gradient), None
