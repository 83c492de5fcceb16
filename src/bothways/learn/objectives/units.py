"""What is masked as a whole: tokens, words, or spans of words.

Words: as Google's BERT did from May 2019 on; Cui et al. 2021, "Pre-Training with Whole Word Masking for Chinese BERT".
Spans: Joshi et al. 2020, "SpanBERT", section 3.1.

Shapes: T tokens in the packed batch, U units in it, W words.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch
from bothways.text.spelling import Edges

_STOP, LONGEST_SPAN = 0.2, 10
_shares = _STOP * (1 - _STOP) ** np.arange(LONGEST_SPAN)
SPAN_LENGTHS = _shares / _shares.sum()
"""The shares of spans of 1 to 10 words: geometric with p = 0.2, longer ones left out; 3.8 words in the mean."""


class Units(NamedTuple):
    """Runs of tokens in a batch, from left to right, that do not overlap; no special token is in one.

    Attributes:
        starts: ``(U,)`` the first token of each.
        lengths: ``(U,)`` its tokens.
    """

    starts: np.ndarray
    lengths: np.ndarray


def tokens(maskable_T: np.ndarray) -> Units:
    """Each token by itself.

    Args:
        maskable_T: ``(T,)`` whether a token may be masked.
    """
    starts = np.flatnonzero(maskable_T)
    return Units(starts, np.ones_like(starts))


def words(batch: TokenBatch, maskable_T: np.ndarray, edges: Edges) -> Units:
    """Whole words. Where a sequence begins, and behind a special token, a word begins whatever the token.

    Args:
        batch: Of NumPy arrays.
        maskable_T: ``(T,)`` whether a token may be masked.
        edges: Which tokens begin and end words.
    """
    begins_T = edges.begins[batch.token_ids] | ~maskable_T
    begins_T[1:] |= (edges.ends[batch.token_ids] | ~maskable_T)[:-1]
    begins_T[batch.starts[:-1]] = True
    starts = np.flatnonzero(begins_T)
    lengths = np.diff(np.append(starts, len(begins_T)))
    kept = maskable_T[starts]
    return Units(starts[kept], lengths[kept])


def spans(batch: TokenBatch, whole_words: Units, chance_T: np.ndarray, rate: float) -> Units:
    """The text cut into spans of words, each as long as it happens to come out.

    Lengths are drawn from `SPAN_LENGTHS`, in short sequences without those above the number of words that the rate asks
    for. The last span before a special token, or the end, may be cut short.

    Args:
        batch: Of NumPy arrays.
        whole_words: The words in it.
        chance_T: ``(T,)`` random numbers from 0 to 1; those of the first tokens of words are used.
        rate: The share of the words of a sequence that is to be masked.
    """
    starts, lengths = whole_words
    count = len(starts)
    fresh_W = np.isin(starts, batch.starts)  # words that do not follow the one before them
    fresh_W[1:] |= starts[1:] != (starts + lengths)[:-1]
    breaks = np.append(np.flatnonzero(fresh_W), count)
    until_W = breaks[np.searchsorted(breaks, np.arange(count), side="right")]
    sequence_W = batch.sequence_of_token[starts]
    longest_S = np.clip(np.rint(rate * np.bincount(sequence_W, minlength=batch.sequences)), 1, LONGEST_SPAN)
    upto = np.cumsum(SPAN_LENGTHS)
    within_W = upto[longest_S.astype(np.int64) - 1][sequence_W]
    drawn_W = 1 + np.searchsorted(upto[:-1], chance_T[starts] * within_W, side="right")
    ends = np.minimum(np.arange(count) + drawn_W, until_W).tolist()
    firsts, word = [], 0
    while word < count:
        firsts.append(word)
        word = ends[word]
    passed = np.append(0, np.cumsum(lengths))
    first = np.asarray(firsts, dtype=np.int64)
    return Units(starts[first], np.diff(passed[np.append(first, count)]))
