"""Finding copies: documents with the same words, and with nearly the same, however many there are.

A document is known by the set of its runs of five words; MinHash (Broder 1997, as the library rensa computes it) keeps
128 numbers of it, which agree for two documents as often as their sets do (Jaccard). Numbers are grouped into bands:
two documents that share a band are compared (Indyk and Motwani 1998). Bands lie on disk, a file each, and are sorted a
part at a time, so memory does not grow with the corpus.

Shapes: N documents, P = 128 numbers a document, B bands.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bothways.chance import derived_seed
from bothways.errors import BothwaysError, need
from bothways.text.cleaning.grams import sequences

NUMBERS = 128
RUN = 5
"""Words of a run; a shorter document is compared as a whole."""
AT_ONCE = 1 << 21
"""Records that are sorted in memory at a time, about 32 bytes each."""
_FOUND = 0.99  # how many of the pairs right at the threshold share a band
_SEED = derived_seed("minhash", 0)


def bands_of(threshold: float) -> tuple[int, int]:
    """How many bands of how many numbers find nearly all pairs that are at least so alike.

    Args:
        threshold: Jaccard similarity of the sets of runs.

    Raises:
        BothwaysError: It is not from 0.5 to 1.
    """
    if not 0.5 <= threshold <= 1:
        raise BothwaysError(f"near must be a similarity from 0.5 to 1, not {threshold!r}")
    for rows in range(8, 0, -1):
        bands = NUMBERS // rows
        if 1 - (1 - threshold**rows) ** bands >= _FOUND:
            break
    return bands, rows


def signatures(documents: list[np.ndarray]) -> np.ndarray:
    """MinHash signatures.

    Args:
        documents: For each the numbers of its words, ``(W,)`` uint64.

    Returns:
        ``(N, P)`` uint32.
    """
    rensa = need("rensa", "corpus", "Finding near duplicates")
    runs = [next(iter(sequences(words, [min(RUN, max(len(words), 1))]).values())) for words in documents]
    starts = np.cumsum([0, *map(len, runs)]).astype(np.uint64)
    flat = np.concatenate(runs) if runs else np.empty(0, np.uint64)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, starts, NUMBERS, _SEED)
    return np.array(matrix.to_rows(), np.uint32).reshape(len(documents), NUMBERS)


def band_keys(signatures_NP: np.ndarray, bands: int, rows: int) -> np.ndarray:
    """``(B, N)`` uint64: what two documents have in common that share a band."""
    keys_BN = np.zeros((bands, len(signatures_NP)), np.uint64)
    columns_PN = signatures_NP.T.astype(np.uint64)
    odd, mix = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    for band in range(bands):
        for row in range(rows):
            keys_BN[band] = (keys_BN[band] ^ columns_PN[band * rows + row]) * odd
            keys_BN[band] ^= (keys_BN[band] >> np.uint64(31)) * mix
    return keys_BN


def groups(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The records of a file that share their number with others, a part of the file in memory at a time.

    Args:
        path: Numbers of 64 bits.

    Yields:
        ``(places, group)``: places in the file in growing order within a group, and the place of the first of each
        one's group in `places`; both ``(M,)`` int64.
    """
    count = path.stat().st_size // 8
    parts = max(1, -(-count // AT_ONCE))
    for part in range(parts):
        keys, places = _part(path, part, parts)
        order = np.argsort(keys, kind="stable")
        keys, places = keys[order], places[order]
        first = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        sizes = np.diff(np.append(first, len(keys)))
        several = np.repeat(sizes > 1, sizes)
        kept = np.cumsum(several) - 1  # where each record stands among those that are yielded
        group = np.repeat(kept[first] if len(first) else first, sizes)[several]
        if len(group):
            yield places[several], group


def _part(path: Path, part: int, parts: int) -> tuple[np.ndarray, np.ndarray]:
    keys, places = [], []
    with path.open("rb") as file:
        begin = 0
        while len(some := np.fromfile(file, np.uint64, AT_ONCE)):
            here = np.flatnonzero(some % np.uint64(parts) == part) if parts > 1 else np.arange(len(some))
            keys.append(some[here])
            places.append(here + begin)
            begin += len(some)
    if not keys:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    return np.concatenate(keys), np.concatenate(places)


def find_exact(path: Path, copy_of: np.ndarray) -> None:
    """Notes for every document whose digest stands earlier in the file the number of the first that has it.

    Args:
        path: The digests, 64 bits each.
        copy_of: ``(N,)`` int64, -1 for what is no copy; written to.
    """
    for places, group in groups(path):
        firsts = places[group]
        later = places > firsts
        copy_of[places[later]] = firsts[later]


def find_near(paths: list[Path], signatures_NP: np.ndarray, threshold: float, near_of: np.ndarray) -> None:
    """Notes for every document that is nearly as an earlier one the number of that one.

    In each band a document is compared with the first and with the last before it.

    Args:
        paths: The files of the bands.
        signatures_NP: ``(N, P)`` uint32, memory-mapped.
        threshold: How alike two signatures have to be.
        near_of: ``(N,)`` int64, -1 for what is like none; written to.
    """
    for path in paths:
        for places, group in groups(path):
            firsts = places[group]
            before = np.concatenate((places[:1], places[:-1]))
            for others in (firsts, before):
                later = np.flatnonzero((places > firsts) & (near_of[places] < 0))
                for some in np.array_split(later, -(-len(later) // 65536) or 1):
                    here, there = places[some], others[some]
                    alike = (signatures_NP[here] == signatures_NP[there]).mean(axis=1) >= threshold
                    near_of[here[alike]] = there[alike]
