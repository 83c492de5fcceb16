"""Batches whose number of tokens is one of few.

oneDNN prepares a kernel for each shape that it meets, which takes longer than running it. So where it multiplies (and
not our own kernels) a batch begins with a few sequences of one token each that nobody asked for: then its size is a
multiple of 64 (of 16 where it is small), and the kernels of earlier batches serve it. A short text alone stays as it
is: there are few such sizes, and time matters most.
"""

from __future__ import annotations

import numpy as np

from bothways.batch import TokenBatch

_STEP, _SMALL_STEP, _SMALL, _SHORT = 64, 16, 256, 32


def fillers(tokens: int) -> int:
    """How many tokens a batch is to be filled up with."""
    return 0 if tokens <= _SHORT else -tokens % (_SMALL_STEP if tokens <= _SMALL else _STEP)


def filled(batch: TokenBatch, count: int, token: int) -> TokenBatch:
    """A batch that begins with `count` sequences of one token.

    Args:
        batch: Of NumPy arrays.
        count: How many.
        token: Their token.
    """
    if not count:
        return batch

    def before(values: np.ndarray, value: int) -> np.ndarray:
        return np.concatenate([np.full(count, value, dtype=values.dtype), values])

    chosen = batch.global_tokens
    return TokenBatch(
        token_ids=before(batch.token_ids, token),
        segment_ids=before(batch.segment_ids, 0),
        positions=before(batch.positions, 0),
        starts=np.concatenate([np.arange(count, dtype=batch.starts.dtype), batch.starts + count]),
        rows=before(batch.rows, -1),
        global_tokens=None if chosen is None else before(np.asarray(chosen), 0),
    )
