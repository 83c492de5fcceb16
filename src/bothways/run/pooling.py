"""From token vectors to one vector a text. NumPy only, so that it works where torch is not installed.

Shapes: T tokens in the packed batch, S sequences, D width.
"""

from __future__ import annotations

import numpy as np

from bothways.errors import BothwaysError, closest

POOLINGS = ("mean", "cls", "max")


def check_pooling(pooling: str) -> str:
    """Returns the name if there is such a pooling.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    if pooling not in POOLINGS:
        raise BothwaysError(
            f"there is no pooling {pooling!r}; there are {', '.join(POOLINGS)}{closest(pooling, POOLINGS)}"
        )
    return pooling


def pool(hidden_TD: np.ndarray, starts: np.ndarray, pooling: str) -> np.ndarray:
    """Pools the tokens of each sequence, ``[CLS]`` and ``[SEP]`` included, as Reimers and Gurevych 2019 (section 3) do.

    Args:
        hidden_TD: ``(T, D)`` hidden states.
        starts: ``(S + 1,)`` where each sequence begins.
        pooling: ``"mean"``, ``"cls"`` (the first token) or ``"max"``.

    Returns:
        ``(S, D)`` float32.
    """
    check_pooling(pooling)
    hidden_TD = np.asarray(hidden_TD, dtype=np.float32)
    if pooling == "cls":
        return hidden_TD[starts[:-1]]
    if pooling == "max":
        return np.maximum.reduceat(hidden_TD, starts[:-1], axis=0)
    return np.add.reduceat(hidden_TD, starts[:-1], axis=0) / np.diff(starts)[:, None].astype(np.float32)


def normalize(vectors: np.ndarray) -> np.ndarray:
    """Scales each row of ``(S, D)`` to length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
