"""TokenBatch: the one thing that travels, from the tokenizer to the loss.

Padding does not exist here. The tokens of all sequences lie one after another in flat arrays, sequences in order of
length, so that neighbours of equal length form dense rectangles for attention. Linear layers, norms, pooling, heads
and losses run on ``(T, D)``; only what truly needs a rectangle asks for one (`unpack`, `pack`).

Shapes: T real tokens in the batch, S sequences, L the longest length, D any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from bothways.errors import BothwaysError

GlobalRule = Literal["none", "first", "first_text", "second_text"]
"""Which tokens of a sequence are global; see `mark_global`."""

Array = Any  # a NumPy array on the text side, a torch tensor past the model's door


class Rectangle(NamedTuple):
    """Neighbouring sequences of equal length: tokens ``start .. start + sequences * length``."""

    start: int
    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        """How many tokens it holds."""
        return self.sequences * self.length


@dataclass(frozen=True)
class TokenBatch:
    """Sequences of tokens without padding, in order of length.

    Attributes:
        token_ids: ``(T,)`` integers, NumPy or torch.
        segment_ids: ``(T,)`` integers, 0 for the first text of a pair, 1 for the second.
        positions: ``(T,)`` integers, from 0 in each sequence. A family's offset lives in its embeddings.
        starts: ``(S + 1,)`` where each sequence begins; the last entry is T. Always NumPy, on the host.
        rows: ``(S,)`` the place of each sequence in the input it came from. Always NumPy, on the host.
        global_tokens: ``(T,)`` booleans, for families whose attention has global tokens, else None.
        sight: ``(3, T)`` integers, where not every token sees every other of its sequence, else None: each token's
            clock, and from which time on and until before which it is seen (`bothways.model.parts.sight`).
    """

    token_ids: Array
    segment_ids: Array
    positions: Array
    starts: np.ndarray
    rows: np.ndarray
    global_tokens: Array | None = None
    sight: Array | None = None

    @property
    def tokens(self) -> int:
        """T, the number of real tokens."""
        return int(self.starts[-1])

    @property
    def sequences(self) -> int:
        """S, the number of sequences."""
        return len(self.rows)

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(S,)`` the number of tokens of each sequence."""
        return np.diff(self.starts)

    @cached_property
    def longest(self) -> int:
        """L, the length of the longest sequence; 0 for an empty batch."""
        return int(self.lengths.max()) if len(self.rows) else 0

    @cached_property
    def plan(self) -> tuple[Rectangle, ...]:
        """The batch as rectangles of neighbouring sequences of equal length, computed once."""
        lengths = self.lengths
        edges = np.flatnonzero(np.diff(lengths)) + 1
        first = np.concatenate(([0], edges)) if len(lengths) else np.empty(0, int)
        last = np.concatenate((edges, [len(lengths)]))
        return tuple(
            Rectangle(int(self.starts[a]), int(b - a), int(lengths[a]))
            for a, b in zip(first, last, strict=False)
            if lengths[a]
        )

    @cached_property
    def sequence_of_token(self) -> np.ndarray:
        """``(T,)`` the number of the sequence that each token belongs to."""
        return np.repeat(np.arange(self.sequences), self.lengths)

    def with_tokens(self, token_ids: Array) -> TokenBatch:
        """The same batch with other tokens, such as masked ones.

        Args:
            token_ids: ``(T,)`` integers.
        """
        return replace(self, token_ids=token_ids)


def make_batch(
    sequences: Sequence[Sequence[int] | np.ndarray],
    segments: Sequence[Sequence[int] | np.ndarray] | None = None,
    rows: Sequence[int] | np.ndarray | None = None,
) -> TokenBatch:
    """Packs sequences of token ids into a batch, shortest first.

    Args:
        sequences: S sequences of token ids.
        segments: S sequences of segment ids of the same lengths; all 0 when not given.
        rows: ``(S,)`` the place of each sequence in the input; 0 .. S-1 when not given.

    Returns:
        The batch, NumPy arrays inside. Equal lengths keep their order.
    """
    lengths = np.fromiter((len(sequence) for sequence in sequences), dtype=np.int64, count=len(sequences))
    order = np.argsort(lengths, kind="stable")
    starts = np.zeros(len(sequences) + 1, dtype=np.int64)
    np.cumsum(lengths[order], out=starts[1:])
    origin = np.arange(len(sequences)) if rows is None else np.asarray(rows, dtype=np.int64)
    total = int(starts[-1])
    return TokenBatch(
        token_ids=_flat([sequences[i] for i in order]),
        segment_ids=_flat([segments[i] for i in order]) if segments is not None else np.zeros(total, dtype=np.int64),
        positions=np.arange(total, dtype=np.int64) - np.repeat(starts[:-1], lengths[order]),
        starts=starts,
        rows=origin[order],
    )


def _flat(parts: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    arrays = [np.asarray(part, dtype=np.int64) for part in parts]
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=np.int64)


def mark_global(batch: TokenBatch, rule: GlobalRule, separator: int | None = None) -> TokenBatch:
    """The batch with its global tokens marked.

    Args:
        batch: Of NumPy arrays or tensors.
        rule: ``none``; the ``first`` token of each sequence; those of the ``first_text``, which stand before the first
            separator; or those of the ``second_text``, which stand behind the separators that end the first.
        separator: The id of the token that ends a text; the last two rules need it.

    Raises:
        BothwaysError: The rule needs a separator and none is given.
    """
    if rule == "none":
        return batch
    positions = _on_host(batch.positions)
    if rule == "first":
        return replace(batch, global_tokens=positions == 0)
    if separator is None:
        raise BothwaysError(f"the tokens of the {rule.replace('_', ' ')} are not known without a separator token")
    separators = _on_host(batch.token_ids) == separator
    ends = _first_place(separators, batch)
    if rule == "first_text":
        return replace(batch, global_tokens=(positions < ends) & (ends < np.repeat(batch.lengths, batch.lengths)))
    begins = _first_place(~separators & (positions > ends), batch)
    return replace(batch, global_tokens=positions >= begins)


def _first_place(flags: np.ndarray, batch: TokenBatch) -> np.ndarray:
    """``(T,)`` for each token the first place in its sequence with a flag; the sequence's length if there is none."""
    flagged = np.flatnonzero(flags)
    sequences, first = np.unique(batch.sequence_of_token[flagged], return_index=True)
    places = batch.lengths.copy()
    places[sequences] = flagged[first] - batch.starts[sequences]
    return np.repeat(places, batch.lengths)


def budget_batches(lengths: Sequence[int] | np.ndarray, budget: int) -> list[np.ndarray]:
    """Splits sequences into batches of at most `budget` tokens, similar lengths together.

    Args:
        lengths: ``(S,)`` tokens in each sequence.
        budget: The most tokens in a batch. A sequence longer than that gets a batch of its own.

    Returns:
        For each batch the places of its sequences, longest batch first (so that memory peaks at the start).
    """
    lengths = np.asarray(lengths)
    batches: list[np.ndarray] = []
    current: list[int] = []
    filled = 0
    for place in np.argsort(-lengths, kind="stable"):
        if current and filled + lengths[place] > budget:
            batches.append(np.asarray(current))
            current, filled = [], 0
        current.append(int(place))
        filled += int(lengths[place])
    if current:
        batches.append(np.asarray(current))
    return batches


def pack(
    input_ids: Array,
    attention_mask: Array | None = None,
    token_type_ids: Array | None = None,
    global_attention_mask: Array | None = None,
) -> TokenBatch:
    """Turns the padded rectangle that other libraries use into a packed batch.

    Args:
        input_ids: ``(S, L)`` token ids, NumPy or torch.
        attention_mask: ``(S, L)`` nonzero where a token is real; all real when not given.
        token_type_ids: ``(S, L)`` segment ids; all 0 when not given.
        global_attention_mask: ``(S, L)`` nonzero where a token is global, for families that have such tokens.

    Returns:
        The batch, of NumPy arrays; `rows` remembers the row of each sequence, so that `unpack` restores the order.
        Tokens that are masked anywhere in a row are left out, and positions count the real ones.
    """
    ids = _on_host(input_ids)
    real = np.ones(ids.shape, dtype=bool) if attention_mask is None else _on_host(attention_mask).astype(bool)
    segments = np.zeros_like(ids) if token_type_ids is None else _on_host(token_type_ids)
    batch = make_batch(
        [row[keep] for row, keep in zip(ids, real, strict=True)],
        [row[keep] for row, keep in zip(segments, real, strict=True)],
    )
    if global_attention_mask is None:
        return batch
    marked = _on_host(global_attention_mask).astype(bool)
    return replace(batch, global_tokens=marked[batch.rows][real[batch.rows]])


def unpack(values: Array, batch: TokenBatch, fill: float = 0.0) -> Array:
    """Spreads values of packed tokens over a rectangle, in the order of the rows that the batch came from.

    Args:
        values: ``(T, ...)`` one entry a token, NumPy or torch (gradients flow through).
        batch: The batch that the values belong to.
        fill: What stands where no token is.

    Returns:
        ``(S, L, ...)`` of the same kind, type and device as `values`.
    """
    order = np.argsort(np.argsort(batch.rows, kind="stable"), kind="stable")
    place = order[batch.sequence_of_token]
    column = np.arange(batch.tokens) - np.repeat(batch.starts[:-1], batch.lengths)
    shape = (batch.sequences, batch.longest, *values.shape[1:])
    if isinstance(values, np.ndarray):
        out = np.full(shape, fill, dtype=values.dtype)
        out[place, column] = values
        return out
    import torch

    index = (torch.as_tensor(place, device=values.device), torch.as_tensor(column, device=values.device))
    return values.new_full(shape, fill).index_put(index, values)


def _on_host(array: Array) -> np.ndarray:
    return np.asarray(array.detach().cpu() if hasattr(array, "detach") else array)
