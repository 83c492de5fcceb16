"""The vectors that another model has for the texts that are learned from, asked once, before the first step.

Shapes: S texts, E width of a vector.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import progress, say
from bothways.run.model import Model

_IN_MEMORY = 256 << 20
"""Bytes of vectors that are kept in memory; more lie in a nameless file in the folder for temporary files."""
_SAMPLE = 10_000
"""Vectors that tell in which directions most of all lies."""


def taught_vectors(teacher: Model, texts: Sequence[str], width: int | None) -> np.ndarray:
    """A teacher's vectors.

    Those that are longer than the student's are turned so that the first values hold most of them, and cut (principal
    components, not centred, so that products stay as they are).

    Args:
        teacher: Who is asked.
        texts: S texts.
        width: E, of the student; None: the teacher's own.

    Returns:
        ``(S, E)`` float32.

    Raises:
        BothwaysError: The teacher's vectors are shorter than the student's, or there is no room for them.
    """
    taught = _asked(teacher, texts)
    if width is None or taught.shape[1] == width:
        return taught
    if taught.shape[1] < width:
        raise BothwaysError(
            f"the teacher {teacher.name} makes vectors of {taught.shape[1]} values, the student of {width}: take a "
            "teacher whose vectors are as long or longer"
        )
    places = np.linspace(0, len(taught) - 1, min(len(taught), _SAMPLE)).astype(np.int64)
    _, sizes, turned_EE = np.linalg.svd(np.array(taught[places], dtype=np.float64), full_matrices=False)
    if len(turned_EE) < width:
        raise BothwaysError(
            f"{len(texts):,} texts are too few to tell how vectors of {taught.shape[1]} values are best cut to {width}"
        )
    kept = float((sizes[:width] ** 2).sum() / (sizes**2).sum())
    say(f"the teacher's vectors of {taught.shape[1]} values are cut to {width}, which keeps {kept:.1%} of them")
    cut = _room(len(taught), width)
    for start in range(0, len(taught), _SAMPLE):
        cut[start : start + _SAMPLE] = taught[start : start + _SAMPLE] @ turned_EE[:width].T.astype(np.float32)
    return cut


def _asked(teacher: Model, texts: Sequence[str]) -> np.ndarray:
    found: np.ndarray | None = None
    with progress("Asking the teacher", len(texts), "texts") as bar:
        for place, vector in enumerate(teacher.embed(iter(texts))):
            if found is None:
                found = _room(len(texts), len(vector))
            found[place] = vector
            bar.advance(1)
    assert found is not None
    return found


def _room(rows: int, width: int) -> np.ndarray:
    """``(rows, width)`` float32, in memory or on the disk."""
    if rows * width * 4 <= _IN_MEMORY:
        return np.empty((rows, width), dtype=np.float32)
    try:
        return np.memmap(tempfile.TemporaryFile(), dtype=np.float32, mode="w+", shape=(rows, width))
    except OSError as error:
        raise BothwaysError(
            f"the teacher's vectors cannot be kept in the folder for temporary files, {tempfile.gettempdir()} "
            f"({error.strerror}): make room there, or name another one in the environment variable TMPDIR"
        ) from None
