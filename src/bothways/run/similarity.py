"""How alike two vectors are. NumPy only, so that it works where torch is not installed.

Shapes: N and M vectors of width E.
"""

from __future__ import annotations

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.run.pooling import normalize

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
"""Cosine, dot product, and the two distances with a minus, so that more is always more alike."""
_CELLS = 1 << 24
"""Numbers that one step of the sum of distances holds at a time."""
_ROWS, _COLUMNS = 256, 65_536
"""Vectors of each side that are compared at once where the nearest are looked for."""


def check_similarity(name: str) -> str:
    """Returns the name if there is such a measure.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    if name not in SIMILARITIES:
        raise BothwaysError(
            f"there is no similarity {name!r}; there are {', '.join(SIMILARITIES)}{closest(name, SIMILARITIES)}"
        )
    return name


def similarity(a: np.ndarray, b: np.ndarray, measure: str = "cosine") -> np.ndarray:
    """``(N, M)`` float32: each vector of ``(N, E)`` with each of ``(M, E)``, more is more alike.

    Raises:
        BothwaysError: The vectors differ in width, or there is no such measure.
    """
    check_similarity(measure)
    a_NE, b_ME = _vectors(a, b)
    if measure == "cosine":
        return normalize(a_NE) @ normalize(b_ME).T
    if measure == "dot":
        return a_NE @ b_ME.T
    found = np.empty((len(a_NE), len(b_ME)), dtype=np.float32)
    rows = max(1, _CELLS // max(1, b_ME.size))
    for first in range(0, len(a_NE), rows):
        apart = a_NE[first : first + rows, None] - b_ME[None]
        found[first : first + rows] = -(
            np.abs(apart).sum(-1) if measure == "manhattan" else np.linalg.norm(apart, axis=-1)
        )
    return found


def paired(a: np.ndarray, b: np.ndarray, measure: str = "cosine") -> np.ndarray:
    """``(N,)`` float32: each vector of ``(N, E)`` with the one of ``(N, E)`` in its place, more is more alike.

    Raises:
        BothwaysError: The vectors differ in width or number, or there is no such measure.
    """
    check_similarity(measure)
    a_NE, b_NE = _vectors(a, b)
    if len(a_NE) != len(b_NE):
        raise BothwaysError(f"{len(a_NE)} vectors cannot be compared one by one with {len(b_NE)}")
    if measure == "cosine":
        return np.asarray((normalize(a_NE) * normalize(b_NE)).sum(1))
    if measure == "dot":
        return np.asarray((a_NE * b_NE).sum(1))
    apart = a_NE - b_NE
    return np.asarray(-np.abs(apart).sum(1) if measure == "manhattan" else -np.linalg.norm(apart, axis=1))


def nearest(a_NE: np.ndarray, b_ME: np.ndarray, most: int, measure: str = "cosine") -> tuple[np.ndarray, np.ndarray]:
    """The vectors that are most alike to each, by comparing each with all, some at a time.

    Args:
        a_NE: ``(N, E)``, each of which looks for others.
        b_ME: ``(M, E)``, in memory or on the disk.
        most: K, or M where there are fewer.
        measure: A name of `SIMILARITIES`.

    Returns:
        ``(N, K)`` how alike they are, falling, and their places among the M: the first of equal ones first.
    """
    found = [_nearest(a_NE[at : at + _ROWS], b_ME, most, measure) for at in range(0, len(a_NE), _ROWS)]
    kept = min(most, len(b_ME))
    scores = [scores for scores, _ in found] or [np.empty((0, kept), dtype=np.float32)]
    places = [places for _, places in found] or [np.empty((0, kept), dtype=np.int64)]
    return np.concatenate(scores), np.concatenate(places)


def _nearest(a_NE: np.ndarray, b_ME: np.ndarray, most: int, measure: str) -> tuple[np.ndarray, np.ndarray]:
    best = np.empty((len(a_NE), 0), dtype=np.float32)
    where = np.empty((len(a_NE), 0), dtype=np.int64)
    for at in range(0, len(b_ME), _COLUMNS):
        block = similarity(a_NE, b_ME[at : at + _COLUMNS], measure)
        places = np.broadcast_to(np.arange(at, at + block.shape[1]), block.shape)
        best, where = np.concatenate([best, block], axis=1), np.concatenate([where, places], axis=1)
        if best.shape[1] > most:
            kept = _first(best, where, most)
            best, where = np.take_along_axis(best, kept, 1), np.take_along_axis(where, kept, 1)
    order = np.lexsort((where, -best), axis=1)
    return np.take_along_axis(best, order, 1), np.take_along_axis(where, order, 1)


def _first(scores_NC: np.ndarray, places_NC: np.ndarray, most: int) -> np.ndarray:
    """``(N, K)`` the columns of the K highest scores; of equal ones those of the first places."""
    kept_NK = np.argpartition(-scores_NC, most - 1, axis=1)[:, :most]
    edge_N1 = np.take_along_axis(scores_NC, kept_NK, 1).min(1, keepdims=True)
    tied_N = (scores_NC >= edge_N1).sum(1) > most  # others score what the last of them does
    for row in np.flatnonzero(tied_N):
        kept_NK[row] = np.lexsort((places_NC[row], -scores_NC[row]))[:most]
    return kept_NK


def _vectors(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.atleast_2d(np.asarray(a, dtype=np.float32)), np.atleast_2d(np.asarray(b, dtype=np.float32))
    if a.shape[1] != b.shape[1]:
        raise BothwaysError(
            f"vectors of {a.shape[1]} values cannot be compared with vectors of {b.shape[1]}; make both with the same "
            "model and dims"
        )
    return a, b
