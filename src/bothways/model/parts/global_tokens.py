"""Global tokens: a few tokens that see their whole sequence and are seen by all of it.

Shapes: T tokens, P global tokens, H heads, K head width; in a rectangle N sequences of L tokens, each with at most G
global ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bothways.batch import Rectangle
from bothways.errors import BothwaysError
from bothways.model.parts.attend import prefers_fused
from bothways.model.parts.context import Context
from bothways.model.parts.devices import sent
from bothways.model.parts.dropout import drop

_MOST_SCORES = 2**24
"""So many attention weights exist at a time at most, unless one token alone has more."""


class Slots(NamedTuple):
    """The global tokens of a rectangle, G slots for each sequence; sequences with fewer have free slots.

    Attributes:
        numbers: ``(N, G)`` their numbers among the P global tokens; 0 in a free slot.
        taken: ``(N, G)`` booleans, False for a free slot.
        filled: The taken ones of the N · G slots.
    """

    numbers: Tensor
    taken: Tensor
    filled: Tensor


@dataclass(frozen=True)
class GlobalTokens:
    """The global tokens of a batch.

    Attributes:
        flags: ``(T,)`` booleans.
        tokens: ``(P,)`` their numbers in the batch, in order.
        slots: For each rectangle of the plan; None where it has no global token.
    """

    flags: Tensor
    tokens: Tensor
    slots: tuple[Slots | None, ...]

    @classmethod
    def of(cls, flags_T: Tensor, plan: Sequence[Rectangle]) -> GlobalTokens | None:
        """What attention needs to know; None for a batch without global tokens."""
        flags = flags_T.cpu().numpy()  # the one time that a device is waited for
        slots, found = [], 0
        for start, sequences, length in plan:
            counts = flags[start : start + sequences * length].reshape(sequences, length).sum(1)
            slots.append(_slots(counts, found, flags_T.device) if counts.any() else None)
            found += int(counts.sum())
        tokens = sent(np.flatnonzero(flags), flags_T.device)
        return cls(flags_T, tokens, tuple(slots)) if found else None


def _slots(counts_N: np.ndarray, before: int, device: torch.device) -> Slots:
    places = np.arange(counts_N.max())
    taken = places < counts_N[:, None]
    numbers = np.where(taken, before + (np.cumsum(counts_N) - counts_N)[:, None] + places, 0)
    return Slots(*(sent(array, device) for array in (numbers, taken, np.flatnonzero(taken))))


class GlobalTokenScheme(nn.Module):
    """Finds the global tokens of a batch once for all layers."""

    def prepare(self, context: Context) -> GlobalTokens | None:
        """The batch's global tokens, None if it has none.

        Raises:
            BothwaysError: The batch does not say for each token whether it is global.
        """
        flags = context.global_tokens
        if flags is None:
            return None
        if flags.shape != context.positions.shape:
            raise BothwaysError(
                f"global_tokens has {len(flags)} entries for {len(context.positions)} tokens; it needs one for each"
            )
        return GlobalTokens.of(flags, context.plan)


def attend_global(
    q_PHK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    plan: Sequence[Rectangle],
    chosen: GlobalTokens,
    *,
    dropout: float = 0.0,
    weights: list[Tensor] | None = None,
) -> Tensor:
    """Global tokens attend to every token of their own sequence.

    Args:
        q_PHK: ``(P, H, K)`` queries of the global tokens, in their order.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: The batch as rectangles.
        chosen: Which tokens are global.
        dropout: Share of attention weights that is dropped.
        weights: If the attention weights ``(H, L, L)`` of each sequence are given, the rows of its global tokens are
            replaced by theirs.

    Returns:
        ``(P, H, K)``.
    """
    out, first = [], 0
    for (start, sequences, length), slots in zip(plan, chosen.slots, strict=True):
        if slots is not None:
            here = slice(start, start + sequences * length)
            q = q_PHK[slots.numbers].transpose(1, 2)  # (N, H, G, K)
            k, v = (x[here].unflatten(0, (sequences, length)).transpose(1, 2) for x in (k_THK, v_THK))  # (N, H, L, K)
            if weights is None:
                seen = _in_pieces(q, k, v, dropout)
            else:
                shares = _shares(q, k)
                seen = drop(shares, dropout) @ v
                for number, row in enumerate(shares):
                    taken = slots.taken[number]
                    places = chosen.tokens[slots.numbers[number][taken]] - start - number * length
                    weights[first + number] = weights[first + number].index_copy(1, places, row[:, taken])
            out.append(seen.transpose(1, 2).flatten(0, 1)[slots.filled])
        first += sequences
    return torch.cat(out)


def _in_pieces(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    """``(N, H, G, K)``: as many queries of one sequence at a time as memory allows, else as many sequences."""
    queries = max(1, _MOST_SCORES // (k.shape[1] * k.shape[2]))
    step = max(1, queries // q.shape[2])
    kernel = _fused if prefers_fused(q) else _dense
    parts = zip(q.split(step), k.split(step), v.split(step), strict=True)
    rows = [[kernel(some, k, v, dropout) for some in q.split(queries, dim=2)] for q, k, v in parts]
    return torch.cat([torch.cat(row, dim=2) for row in rows])


def _shares(q: Tensor, k: Tensor) -> Tensor:
    return torch.softmax((q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2), dim=-1)  # (N, H, G, L)


def _dense(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    return drop(_shares(q, k), dropout) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
