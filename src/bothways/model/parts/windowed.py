"""Attention within a window, over packed sequences, at a cost that grows with the length and not with its square.

A long sequence is cut into chunks of queries; each chunk meets the band of keys that any of its queries may see. A
short one is a single chunk. Global tokens join the keys of every chunk of their sequence. `attend_window_one_by_one` is
the reference that all are tested against.

Shapes: T tokens, P global ones, S sequences, H heads, K head width; in a rectangle N sequences of L tokens, each with
at most G global ones, cut into B chunks of C queries with bands of J keys; M = N · B chunks in all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from bothways.batch import Rectangle
from bothways.model.parts.attend import attend, prefers_fused
from bothways.model.parts.dropout import drop
from bothways.model.parts.global_tokens import GlobalTokens
from bothways.model.parts.padded import Padded, attend_padded
from bothways.model.parts.varlen import Edged, attend_edged, takes

_MOST_SCORES = 2**22
"""So many attention weights exist at a time at most, unless one chunk has more; that many stay near a CPU's caches."""
_SMALLEST_CHUNK, _LARGEST_CHUNK = 32, 256
"""Smaller chunks make products too small to be fast, larger ones have longer bands of which less is needed."""


def attend_window(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    plan: Sequence[Rectangle],
    window: int,
    *,
    dropout: float = 0.0,
    scale: float | None = None,
    weights: list[Tensor] | None = None,
    chosen: GlobalTokens | None = None,
) -> Tensor:
    """Every token attends to the tokens of its own sequence at most `window` places away, itself among them.

    Beltagy et al. 2020, section 3.1, without dilation. Global tokens are seen from everywhere; what they see themselves
    is for `attend_global`.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: The batch as rectangles, in order, covering all T tokens.
        window: How far a token sees to either side, in tokens.
        dropout: Share of attention weights that is dropped.
        scale: What the products of queries and keys are multiplied by; 1 / √K when not given.
        weights: If a list is given, the attention weights ``(H, L, L)`` of each sequence are appended to it; they take
            memory that grows with the square of the length.
        chosen: The global tokens, if there are any.

    Returns:
        ``(T, H, K)``.
    """
    factor = 1 / math.sqrt(q_THK.shape[-1]) if scale is None else scale
    if isinstance(plan, Padded):
        return attend_padded(q_THK, k_THK, v_THK, plan, factor, window=window)
    if chosen is None and weights is None and takes(plan, q_THK, k_THK, v_THK, dropout):
        return attend_edged(q_THK, k_THK, v_THK, cast(Edged, plan), factor, dropout=dropout, window=window)
    sizes = [rectangle.sequences * rectangle.length for rectangle in plan]
    everywhere = [None] * len(plan) if chosen is None else _everywhere(k_THK, v_THK, plan, chosen)
    parts = zip(plan, everywhere, q_THK.split(sizes), k_THK.split(sizes), v_THK.split(sizes), strict=True)
    out = []
    for (_, sequences, length), beside, q, k, v in parts:
        if length <= window + 1:  # everything is near
            whole = [Rectangle(0, sequences, length)]
            out.append(attend(q, k, v, whole, dropout=dropout, scale=factor, weights=weights))
        else:
            q, k, v = (x.unflatten(0, (sequences, length)) for x in (q, k, v))
            chunks = _Chunks.of(length, window, whole=weights is not None)
            out.append(_in_chunks(q, k, v, chunks, window, beside, dropout, factor, weights).flatten(0, 1))
    if not out:
        return torch.empty_like(q_THK)  # a batch without tokens
    return out[0] if len(out) == 1 else torch.cat(out)


@dataclass(frozen=True)
class _Chunks:
    """How sequences of one length are cut: `count` chunks of `size` queries, `reach` chunks of keys to either side."""

    length: int
    count: int
    size: int
    reach: int

    @classmethod
    def of(cls, length: int, window: int, *, whole: bool = False) -> _Chunks:
        """Bands where they are shorter than the sequence, else all of it at once."""
        size = min(max(window, _SMALLEST_CHUNK), _LARGEST_CHUNK)
        reach = -(-window // size)
        if whole or length <= (2 * reach + 1) * size:
            return cls(length, 1, length, 0)
        return cls(length, -(-length // size), size, reach)

    def queries(self, x_NLHK: Tensor) -> Tensor:
        """``(M, H, C, K)``: each chunk, the last one filled up with zeros."""
        return self._blocks(x_NLHK, 0).flatten(0, 1)

    def bands(self, x_NLHK: Tensor) -> Tensor:
        """``(M, H, J, K)``: each chunk with its neighbours, zeros beyond the sequence's ends."""
        blocks = self._blocks(x_NLHK, self.reach)
        shifted = [blocks[:, first : first + self.count] for first in range(2 * self.reach + 1)]
        return (shifted[0] if self.reach == 0 else torch.cat(shifted, 3)).flatten(0, 1)

    def _blocks(self, x_NLHK: Tensor, reach: int) -> Tensor:
        """``(N, B + 2 · reach, H, C, K)``."""
        after = self.count * self.size - self.length
        padded = F.pad(x_NLHK, (0, 0, 0, 0, reach * self.size, after + reach * self.size))
        return padded.unflatten(1, (self.count + 2 * reach, self.size)).transpose(2, 3)

    def sequences(self, x_MHCK: Tensor) -> Tensor:
        """Back to ``(N, L, H, K)``."""
        return x_MHCK.unflatten(0, (-1, self.count)).transpose(2, 3).flatten(1, 2)[:, : self.length]

    def near(self, window: int, device: torch.device) -> Tensor:
        """``(B, C, J)``: which keys of its band a query sees. What fills up the last chunk sees as its last token."""
        first = torch.arange(self.count, device=device, dtype=torch.int32)[:, None] * self.size
        queries = (first + torch.arange(self.size, device=device, dtype=torch.int32)).clamp(max=self.length - 1)
        band = torch.arange((2 * self.reach + 1) * self.size, device=device, dtype=torch.int32)
        keys = first - self.reach * self.size + band
        inside = (keys >= 0) & (keys < self.length)
        return ((queries[:, :, None] - keys[:, None, :]).abs() <= window) & inside[:, None, :]


class _Everywhere(NamedTuple):
    """The global tokens of a rectangle, keys and values for all of their sequence.

    Attributes:
        flags: ``(N, L)`` booleans, which tokens they are.
        k: ``(N, H, G, K)`` their keys, a slot each.
        v: ``(N, H, G, K)`` their values.
        taken: ``(N, G)`` booleans, False for a slot that is free.
    """

    flags: Tensor
    k: Tensor
    v: Tensor
    taken: Tensor


def _everywhere(
    k_THK: Tensor, v_THK: Tensor, plan: Sequence[Rectangle], chosen: GlobalTokens
) -> list[_Everywhere | None]:
    k_PHK, v_PHK = k_THK[chosen.tokens], v_THK[chosen.tokens]
    found: list[_Everywhere | None] = []
    for (start, sequences, length), slots in zip(plan, chosen.slots, strict=True):
        if slots is None:
            found.append(None)
        else:
            flags = chosen.flags[start : start + sequences * length].view(sequences, length)
            k, v = (x[slots.numbers].transpose(1, 2) for x in (k_PHK, v_PHK))
            found.append(_Everywhere(flags, k, v, slots.taken))
    return found


def _in_chunks(
    q_NLHK: Tensor,
    k_NLHK: Tensor,
    v_NLHK: Tensor,
    chunks: _Chunks,
    window: int,
    beside: _Everywhere | None,
    dropout: float,
    scale: float,
    weights: list[Tensor] | None,
) -> Tensor:
    """``(N, L, H, K)``: a few chunks at a time, each with its band and the global tokens of its sequence."""
    q_MHCK, k_MHJK, v_MHJK = chunks.queries(q_NLHK), chunks.bands(k_NLHK), chunks.bands(v_NLHK)
    near = chunks.near(window, q_MHCK.device)
    flags = None if beside is None else chunks.bands(beside.flags[:, :, None, None])[:, 0, None, :, 0]  # (M, 1, J)
    fused = prefers_fused(q_MHCK) and weights is None
    keys = k_MHJK.shape[2] + (0 if beside is None else beside.k.shape[2])
    heads = 1 if fused else q_MHCK.shape[1]  # the fused kernel holds the mask, which all heads share, and no scores
    step = max(1, _MOST_SCORES // (heads * chunks.size * keys))
    numbers = torch.arange(len(q_MHCK), device=q_MHCK.device)
    out = []
    for number, q, k, v in zip(*(x.split(step) for x in (numbers, q_MHCK, k_MHJK, v_MHJK)), strict=True):
        seen = near[number % chunks.count]  # (some of M, C, J)
        if beside is not None and flags is not None:
            sequence, here = number // chunks.count, flags[number]
            if chunks.count == 1:  # all tokens of the sequence are among the keys as it is
                seen = seen | here
            else:  # global tokens join the keys and leave the band, so that none is seen twice
                k, v = torch.cat((k, beside.k[sequence]), 2), torch.cat((v, beside.v[sequence]), 2)
                taken = beside.taken[sequence, None].expand(-1, chunks.size, -1)
                seen = torch.cat((seen & ~here, taken), 2)
        bias = torch.zeros(seen.shape, dtype=q.dtype, device=q.device).masked_fill_(~seen, -math.inf)
        if fused:
            out.append(F.scaled_dot_product_attention(q, k, v, bias[:, None], dropout, scale=scale))
        else:
            out.append(_dense(q, k, v, bias[:, None], dropout, scale, weights))
    return chunks.sequences(out[0] if len(out) == 1 else torch.cat(out))


def _dense(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor, dropout: float, scale: float, weights: list[Tensor] | None
) -> Tensor:
    scores = (q * scale) @ k.transpose(-1, -2)  # (M, H, C, J)
    shares = torch.softmax(scores.add_(bias), dim=-1)
    if weights is not None:
        weights.extend(shares.unbind(0))
    return drop(shares, dropout) @ v


def attend_window_one_by_one(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    starts: Sequence[int],
    window: int,
    scale: float | None = None,
    flags_T: Tensor | None = None,
) -> Tensor:
    """The reference: the same as `attend_window`, one token at a time, in the plainest way.

    Args:
        q_THK: ``(T, H, K)`` queries.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        starts: ``(S + 1,)`` where each sequence begins.
        window: How far a token sees to either side.
        scale: What the products are multiplied by; 1 / √K when not given.
        flags_T: ``(T,)`` booleans, the tokens that are seen from everywhere, if there are any.

    Returns:
        ``(T, H, K)``.
    """
    factor = 1 / math.sqrt(q_THK.shape[-1]) if scale is None else scale
    out = []
    for start, end in itertools.pairwise(starts):
        for token in range(start, end):
            seen = [
                other
                for other in range(start, end)
                if abs(other - token) <= window or (flags_T is not None and flags_T[other])
            ]
            scores = torch.einsum("hk,thk->ht", q_THK[token], k_THK[seen]) * factor
            out.append(torch.einsum("ht,thk->hk", scores.softmax(-1), v_THK[seen]))
    return torch.stack(out)
