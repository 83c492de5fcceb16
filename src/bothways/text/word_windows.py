"""Texts of words as tokens, long ones in overlapping windows: each word is decided where it is most central.

A word is represented by its first token (Devlin et al. 2018, section 5.3). Windows hold whole words.

Shapes: N texts, W words of all texts, S windows, T tokens of all windows.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.text.encoded import FIRST, Encoded, Flat, assemble, gather_index, join, room_beside
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Cut, Runs, Truncation
from bothways.text.words import joined

_SLICE = 4096
"""Texts encoded at a time, so that memory is bounded by the result."""


@dataclass(frozen=True)
class WordWindows:
    """Windows over texts of words.

    Attributes:
        encoded: The S windows.
        edges: ``(N + 1,)`` where each text's words begin; the last entry is W.
        places: ``(W,)`` the first token of each word, counted over all windows, in the window that decides the word.
        windows: ``(W,)`` that window; never falling, so a window decides neighbouring words.
    """

    encoded: Encoded
    edges: np.ndarray
    places: np.ndarray
    windows: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """``(S + 1,)`` the first word that each window decides; the last entry is W."""
        return np.searchsorted(self.windows, np.arange(len(self.encoded) + 1))

    def decided(self, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
        """The words that a batch of windows decides ``(M,)``, and where in it their first tokens are ``(M,)``."""
        begins, counts = self.starts[batch.rows], np.diff(self.starts)[batch.rows]
        words = gather_index(begins, counts)
        return words, self.places[words] + np.repeat(batch.starts[:-1] - self.encoded.starts[batch.rows], counts)


def encode_words(
    tokenizer: Tokenizer, texts: Iterable[Sequence[str]], max_length: int | None, overlap: int | None = None
) -> WordWindows:
    """Encodes texts of words of any length, some thousand at a time.

    Args:
        tokenizer: What makes the tokens. Words are encoded with single spaces between them; one that it leaves nothing
            of becomes its unknown token, and of one that is longer than a window the beginning stays.
        texts: N lists of words.
        max_length: The most tokens of a window, special tokens counted; None for any length.
        overlap: The most tokens that neighbouring windows share, at most half a window; a quarter when not given.

    Raises:
        BothwaysError: The overlap is too large, or `max_length` leaves no room.
    """
    return _joined(list(encode_word_slices(tokenizer, texts, max_length, overlap)))


def encode_word_slices(
    tokenizer: Tokenizer, texts: Iterable[Sequence[str]], max_length: int | None, overlap: int | None = None
) -> Iterator[WordWindows]:
    """The same some thousand texts at a time, for those who do not need all at once; the first part is empty.

    All numbers begin anew in each part.
    """
    room = None if max_length is None else room_beside(tokenizer.single, max_length)
    check_overlap(room, overlap)
    shared = 0 if room is None else room // 4 if overlap is None else overlap
    given = iter(texts)
    yield _encode(tokenizer, [], room, shared)
    while part := list(islice(given, _SLICE)):
        yield _encode(tokenizer, part, room, shared)


def _encode(tokenizer: Tokenizer, texts: Sequence[Sequence[str]], room: int | None, overlap: int) -> WordWindows:
    edges = np.cumsum([0, *map(len, texts)])
    token_ids, lengths_W = _cut(*_tokens_of_words(tokenizer, texts, edges), room)
    text_S, first_S, last_S, window_W = _all_windows(lengths_W, edges, room, overlap)
    ends_W = np.cumsum(lengths_W)
    begins_W = ends_W - lengths_W
    text_begins = np.append(begins_W, len(token_ids))[edges]
    begin_S, size_S = begins_W[first_S], ends_W[last_S] - begins_W[first_S]
    nothing = np.zeros_like(begin_S)
    runs = Runs(np.stack((begin_S - text_begins[text_S], nothing), axis=1), np.stack((size_S, nothing), axis=1))
    flat = Flat(token_ids, np.diff(text_begins), None, None)
    cut = Cut(text_S, runs, None, Truncation(0, 0, len(texts), len(token_ids)))
    encoded = assemble(tokenizer.single, flat, None, cut)
    before = [piece.source for piece in tokenizer.single].index(FIRST)  # special tokens
    places = encoded.starts[window_W] + before + begins_W - begin_S[window_W]
    return WordWindows(encoded, edges, places, window_W)


def _joined(parts: Sequence[WordWindows]) -> WordWindows:
    words, tokens, windows = (
        np.cumsum([0, *counts])
        for counts in zip(
            *((len(part.places), part.encoded.starts[-1], len(part.encoded)) for part in parts), strict=True
        )
    )
    every = range(len(parts))
    return WordWindows(
        join([part.encoded for part in parts]),
        np.concatenate([[0], *(parts[n].edges[1:] + words[n] for n in every)]).astype(np.int64),
        np.concatenate([parts[n].places + tokens[n] for n in every]),
        np.concatenate([parts[n].windows + windows[n] for n in every]),
    )


def check_overlap(room: int | None, overlap: int | None) -> None:
    """Raises a BothwaysError where windows of `room` tokens of text cannot share `overlap` tokens."""
    if room is not None and room < 1:
        raise BothwaysError("max_length leaves no room for text beside the special tokens; raise it")
    if overlap is not None and not 0 <= overlap <= (overlap if room is None else room // 2):
        most = "0 or more" if room is None else f"from 0 to half of the {room} tokens of a window"
        raise BothwaysError(f"overlap must be {most}, not {overlap}")


def _tokens_of_words(
    tokenizer: Tokenizer, texts: Sequence[Sequence[str]], edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of all words in a row, and ``(W,)`` how many each word has, at least one."""
    made = [joined(words) for words in texts]
    encoded = tokenizer.encode([text for text, _ in made], special_tokens=False, offsets=True)
    assert encoded.offsets is not None
    begins = np.cumsum([0, *(len(text) + 1 for text, _ in made)])[:-1]  # of the texts, as if in one row
    ends = np.fromiter((end for _, offsets in made for _, end in offsets), dtype=np.int64, count=int(edges[-1]))
    ends += np.repeat(begins, np.diff(edges))
    text_T = np.repeat(encoded.texts, encoded.lengths)
    last_T = begins[text_T] + np.maximum(encoded.offsets[:, 1] - 1, 0)  # a space before a word may be its token's
    word_T = np.clip(np.searchsorted(ends, last_T, "right"), edges[text_T], np.maximum(edges[text_T + 1] - 1, 0))
    word_T = np.maximum.accumulate(word_T)
    keep_T = edges[text_T + 1] > edges[text_T]  # a text without words has no word for its tokens
    token_ids, word_T = encoded.token_ids[keep_T], word_T[keep_T]
    lengths = np.bincount(word_T, minlength=int(edges[-1]))
    bare = np.flatnonzero(lengths == 0)
    if len(bare):
        token_ids = np.insert(token_ids, np.cumsum(lengths)[bare], tokenizer.unk_id).astype(token_ids.dtype)
        lengths[bare] = 1
    return token_ids, lengths


def _cut(token_ids: np.ndarray, lengths_W: np.ndarray, room: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Leaves the beginnings of words that are longer than a window."""
    if room is None or not (lengths_W > room).any():
        return token_ids, lengths_W
    rank = np.arange(len(token_ids)) - np.repeat(np.cumsum(lengths_W) - lengths_W, lengths_W)
    return token_ids[rank < room], np.minimum(lengths_W, room)


def _all_windows(
    lengths_W: np.ndarray, edges: np.ndarray, room: int | None, overlap: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Windows ``(S,)`` as text, first and last word, and ``(W,)`` the window that decides each word."""
    found = array("q")
    owner_W = np.empty(len(lengths_W), dtype=np.int64)
    totals = np.diff(np.append(0, np.cumsum(lengths_W))[edges])
    for text, (begin, end) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        if begin == end:
            continue
        if room is None or totals[text] <= room:
            owner_W[begin:end] = len(found) // 3
            found.extend((text, begin, end - 1))
            continue
        windows = list(_windows(lengths_W[begin:end], room, overlap))
        owner = _owners(lengths_W[begin:end], windows)
        deciding, numbers = np.unique(owner, return_inverse=True)
        owner_W[begin:end] = len(found) // 3 + numbers
        for one in deciding:
            found.extend((text, begin + windows[one][0], begin + windows[one][1] - 1))
    columns = np.array(found, dtype=np.int64).reshape(-1, 3)
    return columns[:, 0], columns[:, 1], columns[:, 2], owner_W


def _windows(lengths: np.ndarray, room: int, overlap: int) -> Iterator[tuple[int, int]]:
    """The words ``[a, b)`` of each window over one text, each as long as it can be."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    a = 0
    while True:
        b = int(np.searchsorted(ends, begins[a] + room, "right"))
        yield a, b
        if b == len(lengths):
            return
        shared = np.searchsorted(begins, ends[b - 1] - overlap)
        fitting = np.searchsorted(begins, ends[b] - room)  # the next word must find room
        a = max(a + 1, int(shared), int(fitting))


def _owners(lengths: np.ndarray, windows: Sequence[tuple[int, int]]) -> np.ndarray:
    """For each word the window whose edges are farthest from it, in tokens; where the text ends there is no edge."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    farthest = np.full(len(lengths), -1)
    owner = np.zeros(len(lengths), dtype=np.int64)
    for number, (a, b) in enumerate(windows):
        left = begins[a:b] - begins[a] if a else np.full(b - a, ends[-1])
        right = ends[b - 1] - 1 - begins[a:b] if b < len(lengths) else np.full(b - a, ends[-1])
        central = np.minimum(left, right)
        better = central > farthest[a:b]
        farthest[a:b] = np.where(better, central, farthest[a:b])
        owner[a:b] = np.where(better, number, owner[a:b])
    return owner
