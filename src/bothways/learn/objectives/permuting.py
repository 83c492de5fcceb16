"""Masked tokens guessed one after the other (Song et al. 2020, "MPNet", section 2): each guess sees those before it.

BERT guesses every masked token without the others, though they belong together. Here a sequence's masked tokens come in
a random order, and who guesses the one whose turn it is sees all tokens that are not masked, the true ones of those
that came before, and masks in the places of its own and of those to come: as many as the sequence is long, as in
fine-tuning.

The two streams of the paper are one batch, in which not every token sees every other. Behind each sequence as it was
masked stand its masked tokens twice more, in their own places: the true ones, and those that guess. With t the turn of
a token, from 1, and a clock that shows 0 where nothing is guessed:

    tokens            clock    are seen by
    not masked        0        all
    masks             0        clocks below 2 t
    true ones         2 t      clocks from 2 t on
    those that guess  2 t - 1  nobody

The first in turn sees what every masked token sees in BERT's way, so a model trained so fills in masks as others do.

Shapes: T tokens, S sequences, M masked places.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives.protocol import Key

NEVER = np.iinfo(np.int64).max
"""A time that no clock shows."""


class Permuted(NamedTuple):
    """What an encoder is given.

    Attributes:
        batch: The same sequences in the same order, longer by twice their masked tokens. Of sequences of equal length
            all become as long as the longest: what fills the others nobody sees.
        guessing: ``(M,)`` where in it the masked tokens are guessed, in the order of their places.
    """

    batch: TokenBatch
    guessing: np.ndarray


def turns(places_M: np.ndarray, starts: np.ndarray, keys: list[Key], seed: int) -> np.ndarray:
    """``(M,)`` the turn of each masked token in its sequence, from 1: any order as likely as any other.

    Args:
        places_M: Where they are, ascending.
        starts: ``(S + 1,)`` where each sequence begins.
        keys: Epoch and example id of each sequence.
        seed: Of the run.
    """
    counts_S = np.diff(np.searchsorted(places_M, starts))
    drawn = [
        1 + generator("order", seed, *key).permutation(count)
        for key, count in zip(keys, counts_S, strict=True)
        if count
    ]
    return np.concatenate([np.empty(0, dtype=np.int64), *drawn])


def permuted(batch: TokenBatch, places_M: np.ndarray, labels_M: np.ndarray, turns_M: np.ndarray) -> Permuted:
    """Puts true and guessing tokens behind each sequence.

    Args:
        batch: As it was masked.
        places_M: Where, ascending.
        labels_M: What stood there.
        turns_M: Whose turn comes when, as `turns` draws it.
    """
    sequence_M = batch.sequence_of_token[places_M]
    counts_S = np.bincount(sequence_M, minlength=batch.sequences)
    edges = np.flatnonzero(np.diff(batch.lengths, prepend=-1))
    most_S = np.repeat(np.maximum.reduceat(counts_S, edges), np.diff(edges, append=batch.sequences))
    starts = batch.starts + np.concatenate(([0], 2 * np.cumsum(most_S)))
    kept_T = np.arange(batch.tokens) + (starts[:-1] - batch.starts[:-1])[batch.sequence_of_token]
    among_M = np.arange(len(places_M)) - (np.cumsum(counts_S) - counts_S)[sequence_M]
    true_M = (starts[:-1] + batch.lengths)[sequence_M] + among_M
    guessing_M = true_M + most_S[sequence_M]

    def spread(values_T: np.ndarray, true: np.ndarray, guessing: np.ndarray, others: int = 0) -> np.ndarray:
        made = np.full(int(starts[-1]), others, dtype=np.int64)
        made[kept_T], made[true_M], made[guessing_M] = values_T, true, guessing
        return made

    masks = batch.token_ids[places_M]
    until_T = np.full(batch.tokens, NEVER)
    until_T[places_M] = 2 * turns_M
    nothing_T, never_M = np.zeros(batch.tokens, dtype=np.int64), np.full(len(places_M), NEVER)
    sight = [
        spread(nothing_T, 2 * turns_M, 2 * turns_M - 1),
        spread(nothing_T, 2 * turns_M, never_M, NEVER),
        spread(until_T, never_M, never_M),
    ]
    made = TokenBatch(
        token_ids=spread(batch.token_ids, labels_M, masks),
        segment_ids=spread(batch.segment_ids, *[batch.segment_ids[places_M]] * 2),
        positions=spread(batch.positions, *[batch.positions[places_M]] * 2),
        starts=starts,
        rows=batch.rows,
        sight=np.stack(sight),
    )
    return Permuted(made, guessing_M)
