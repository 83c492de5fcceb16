"""Encoded texts: flat arrays, one entry a token, and how special tokens are set between texts.

Nothing here loops over tokens: every layout is one table of runs (where each stretch of tokens begins and how long it
is), gathered once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch, budget_batches
from bothways.text.truncation import Cut, Truncation

SPECIAL, FIRST, SECOND = -1, 0, 1


class Piece(NamedTuple):
    """One part of a template: a special token, or the place of a text.

    Attributes:
        source: `SPECIAL`, `FIRST` (the text) or `SECOND` (the second text of a pair).
        token_id: The special token; -1 for a text.
        segment: The segment id that its tokens get.
    """

    source: int
    token_id: int
    segment: int


Template = tuple[Piece, ...]


class Flat(NamedTuple):
    """The tokens of N texts in a row, without special tokens.

    Attributes:
        token_ids: ``(T,)``.
        lengths: ``(N,)`` tokens of each text.
        offsets: ``(T, 2)`` characters of the text that a token covers, or None.
        word_ids: ``(T,)`` the number of the word that a token belongs to, -1 for none, or None.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    offsets: np.ndarray | None
    word_ids: np.ndarray | None


@dataclass(frozen=True)
class Encoded:
    """S encoded sequences in a row, T tokens in all, in the order of the texts.

    Attributes:
        token_ids: ``(T,)`` int32.
        segment_ids: ``(T,)`` int8.
        starts: ``(S + 1,)`` where each sequence begins; the last entry is T.
        texts: ``(S,)`` the input text that each sequence comes from. Under "window" a text may have several.
        offsets: ``(T, 2)`` the characters ``text[a:b]`` that each token covers, (0, 0) for special tokens of the
            template; None when not asked for. Tokens of a second text refer to that text.
        word_ids: ``(T,)`` the number of the word in its text, -1 for special tokens; None when not asked for.
        sources: ``(T,)`` int8, which text a token comes from: `FIRST`, `SECOND` of a pair, or `SPECIAL` for the special
            tokens that the template added. (Segment ids do not tell: RoBERTa's are 0 throughout.)
        truncation: What was cut.
        begins: ``(S,)`` how many tokens of its text stand before those in a sequence: not 0 in later windows. Of a pair
            it counts the second text's.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    starts: np.ndarray
    texts: np.ndarray
    offsets: np.ndarray | None
    word_ids: np.ndarray | None
    sources: np.ndarray
    truncation: Truncation
    begins: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def special(self) -> np.ndarray:
        """``(T,)`` True for the special tokens that the template added."""
        return self.sources == SPECIAL

    @cached_property
    def lengths(self) -> np.ndarray:
        """``(S,)`` tokens in each sequence."""
        return np.diff(self.starts)

    def sequence(self, place: int) -> np.ndarray:
        """The token ids of one sequence."""
        return self.token_ids[self.starts[place] : self.starts[place + 1]]

    def batches(self, budget: int) -> Iterator[TokenBatch]:
        """The sequences as packed batches of at most `budget` tokens, longest batch first.

        Args:
            budget: The most tokens in a batch; a longer sequence gets a batch of its own.

        Yields:
            Batches whose `rows` are the numbers of their sequences.
        """
        for places in budget_batches(self.lengths, budget):
            yield self.batch(places)

    def batch(self, places: Sequence[int] | np.ndarray) -> TokenBatch:
        """The sequences at `places` as one packed batch, shortest first."""
        rows = np.asarray(places, dtype=np.int64)
        rows = rows[np.argsort(self.lengths[rows], kind="stable")]
        lengths = self.lengths[rows]
        starts = _edges(lengths)
        index = gather_index(self.starts[rows], lengths)
        return TokenBatch(
            token_ids=self.token_ids[index].astype(np.int64),
            segment_ids=self.segment_ids[index].astype(np.int64),
            positions=np.arange(len(index), dtype=np.int64) - np.repeat(starts[:-1], lengths),
            starts=starts,
            rows=rows,
        )


def gather_index(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The places of runs of tokens, one run after the other.

    Args:
        starts: ``(R,)`` where each run begins.
        lengths: ``(R,)`` how long it is.

    Returns:
        ``(sum of lengths,)`` places: ``starts[0], starts[0] + 1, ..., starts[1], ...``
    """
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)


def room_beside(template: Template, length: int) -> int:
    """The tokens of text that fit into sequences of at most `length` tokens beside a template's special tokens."""
    return length - sum(piece.source == SPECIAL for piece in template)


def framed(template: Template, first: np.ndarray, second: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """One text, or two, between the special tokens of a template.

    Args:
        template: The order of special tokens and texts.
        first: ``(A,)`` token ids.
        second: ``(B,)`` token ids, for a template of two texts.

    Returns:
        ``(L,)`` int64 token ids and ``(L,)`` int64 segment ids.
    """
    texts = {FIRST: first} if second is None else {FIRST: first, SECOND: second}
    parts = [texts.get(piece.source, np.array([piece.token_id])) for piece in template]
    segments = np.repeat([piece.segment for piece in template], [len(part) for part in parts])
    return np.concatenate(parts), segments


def assemble(template: Template, first: Flat, second: Flat | None, cut: Cut) -> Encoded:
    """Sets what stays of the texts between the special tokens of a template.

    Args:
        template: The order of special tokens and texts.
        first: The tokens of the texts.
        second: The tokens of the second texts of pairs, or None.
        cut: Which of them stay.
    """
    specials = np.array([piece.token_id for piece in template if piece.source == SPECIAL], dtype=np.int32)
    parts = [first] if second is None else [first, second]
    count = len(cut.texts)
    columns: list[
        tuple[np.ndarray, np.ndarray, Piece]
    ] = []  # where each stretch of a sequence lies, and how long it is
    for piece in template:
        if piece.source == SPECIAL:
            place = sum(column[2].source == SPECIAL for column in columns)
            columns.append((np.full(count, place), np.ones(count, dtype=np.int64), piece))
            continue
        runs = cut.first if piece.source == FIRST else cut.second
        assert runs is not None
        base = len(specials) + sum(len(part.token_ids) for part in parts[: piece.source])
        begin = base + _edges(parts[piece.source].lengths)[cut.texts]
        columns += [(begin + runs.starts[:, run], runs.lengths[:, run], piece) for run in (0, 1)]
    lengths = np.stack([column[1] for column in columns], axis=1)
    index = gather_index(np.stack([column[0] for column in columns], axis=1).ravel(), lengths.ravel())
    column_of_token = np.repeat(np.tile(np.arange(len(columns)), count), lengths.ravel())
    return Encoded(
        token_ids=np.concatenate([specials, *(part.token_ids for part in parts)])[index],
        segment_ids=np.array([column[2].segment for column in columns], dtype=np.int8)[column_of_token],
        starts=_edges(lengths.sum(axis=1)),
        texts=cut.texts,
        offsets=_beside([part.offsets for part in parts], np.zeros((len(specials), 2), dtype=np.int32), index),
        word_ids=_beside([part.word_ids for part in parts], np.full(len(specials), -1, dtype=np.int32), index),
        sources=np.array([column[2].source for column in columns], dtype=np.int8)[column_of_token],
        truncation=cut.truncation,
        begins=(cut.first if cut.second is None else cut.second).starts[:, 0],
    )


def join(parts: Sequence[Encoded]) -> Encoded:
    """One after the other, as if encoded at once.

    Args:
        parts: At least one; the numbers in `texts` count on from part to part.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    lost = sum((part.truncation for part in parts), Truncation())
    passed = np.cumsum([0] + [part.truncation.all_texts for part in parts])
    return Encoded(
        token_ids=np.concatenate([part.token_ids for part in parts]),
        segment_ids=np.concatenate([part.segment_ids for part in parts]),
        starts=_edges(np.concatenate([part.lengths for part in parts])),
        texts=np.concatenate([part.texts + before for part, before in zip(parts, passed, strict=False)]),
        offsets=None if first.offsets is None else np.concatenate([part.offsets for part in parts]),
        word_ids=None if first.word_ids is None else np.concatenate([part.word_ids for part in parts]),
        sources=np.concatenate([part.sources for part in parts]),
        truncation=lost,
        begins=np.concatenate([part.begins for part in parts]),
    )


def _beside(arrays: Sequence[np.ndarray | None], specials: np.ndarray, index: np.ndarray) -> np.ndarray | None:
    present = [array for array in arrays if array is not None]
    return np.concatenate([specials, *present])[index] if present else None


def _edges(lengths: np.ndarray) -> np.ndarray:
    edges = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=edges[1:])
    return edges
