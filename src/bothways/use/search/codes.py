"""How vectors are kept: as they are, in 8 bits a number, or in one bit a number; the last two are scored again.

In one bit a number keeps its sign. The first look at all vectors then compares signs (Hamming distance), and the best
of it, several times as many as are wanted, are scored anew against the whole query: with the 8-bit numbers where they
are kept, else with the signs as +1 and -1 (Yamada et al. 2021, "Efficient Passage Retrieval with Hashing for
Open-domain Question Answering", section 3; Shakir et al. 2024, "Binary and Scalar Embedding Quantization").

Shapes: N vectors, E their width.
"""

from __future__ import annotations

import numpy as np

from bothways.errors import BothwaysError, closest

KINDS = ("float32", "int8", "binary")
OVERSAMPLED = {"int8": 64, "binary": 8}
"""How many times as many as are wanted are scored again: more of them find no more (`benchmarks/README.md`)."""


def check_kind(kind: str) -> str:
    """Returns the name if vectors can be kept so.

    Raises:
        BothwaysError: They cannot.
    """
    if kind not in KINDS:
        raise BothwaysError(f"vectors are kept as {', '.join(KINDS)}, not {kind!r}{closest(kind, KINDS)}")
    return kind


def signs(vectors_NE: np.ndarray) -> np.ndarray:
    """``(N, E)`` numbers as ``(N, ceil(E / 8))`` uint8, a bit a number: 1 where it is above zero."""
    return np.packbits(vectors_NE > 0, axis=1)


def int8(vectors_NE: np.ndarray) -> np.ndarray:
    """``(N, E)`` numbers as ``(N, E)`` int8: the largest of each vector, which cosines do not see, becomes 127."""
    largest_N1 = np.maximum(np.abs(vectors_NE).max(axis=1, keepdims=True), 1e-12)
    return np.round(vectors_NE * (127 / largest_N1)).astype(np.int8)


def restored(kind: str, codes: np.ndarray, width: int) -> np.ndarray:
    """``(N, E)`` float32 of length 1 from what is kept.

    Args:
        kind: ``"int8"`` or ``"binary"``.
        codes: As `int8` or `signs` gave them.
        width: E.
    """
    if kind == "binary":
        codes = np.unpackbits(codes, axis=1, count=width).astype(np.float32) * 2 - 1
    vectors_NE = codes.astype(np.float32)
    lengths_N1 = np.linalg.norm(vectors_NE, axis=1, keepdims=True)
    return np.asarray(vectors_NE / np.maximum(lengths_N1, 1e-12), dtype=np.float32)
