"""Documents that say the same: equal texts, and texts whose vectors are nearly equal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.use.search.index import Index
from bothways.use.search.whole import Whole, read_whole

_CELLS = 1 << 23
"""Cosines that are in memory at once."""


@dataclass(frozen=True)
class Twin:
    """A document that says what another one says.

    Attributes:
        document: Its id.
        kept: The id of the one that is kept.
        similarity: Their cosine.
        text: How it begins.
        kept_text: How the one that is kept begins.
    """

    document: str
    kept: str
    similarity: float
    text: str
    kept_text: str


@dataclass(frozen=True)
class Duplicates:
    """What was found.

    Attributes:
        documents: How many documents there are.
        twins: Those that are one too many, in the order of their ids.
        equal: How many of these have the text of the kept one, but for spaces and the size of letters.
    """

    documents: int
    twins: list[Twin]
    equal: int


def dedupe(index: Index, *, similarity: float = 0.95, delete: bool = False) -> Duplicates:
    """Finds documents of an index that say the same.

    Of two documents that are alike the one with the smaller id is kept. A document goes only if it is alike to one that
    stays, so chains of similar texts do not vanish.

    Args:
        index: The index.
        similarity: The cosine from which two documents are alike.
        delete: Whether those that are one too many are deleted from the index.

    Raises:
        BothwaysError: The similarity is none, or the index holds nothing.
    """
    if not 0 < similarity <= 1:
        raise BothwaysError(f"a similarity from which texts are alike is above 0 and at most 1, not {similarity}")
    whole = read_whole(index, letters=None)
    twins: list[Twin] = []
    equal = 0
    gone: set[int] = set()
    for place, near in _near(whole.vectors, similarity):
        stays = [(cosine, -other) for other, cosine in near if other not in gone]
        if stays:
            cosine, other = max(stays)
            gone.add(place)
            equal += whole.prints[place] == whole.prints[-other]
            twins.append(_twin(whole, place, -other, cosine))
    found = Duplicates(len(whole.documents), twins, equal)
    if delete:
        delete_twins(index, found)
    return found


def delete_twins(index: Index, found: Duplicates) -> None:
    """Deletes the documents that are one too many from the index they were found in."""
    if found.twins:
        index.delete([twin.document for twin in found.twins])


def _near(vectors_NE: np.ndarray, similarity: float) -> Iterator[tuple[int, list[tuple[int, float]]]]:
    """For each place the places before it whose vectors are alike, with their cosines: all are compared."""
    count = len(vectors_NE)
    rows = max(1, _CELLS // count)
    with progress("Comparing", count, "documents") as job:
        for begin in range(0, count, rows):
            end = min(begin + rows, count)
            cosines = vectors_NE[begin:end] @ vectors_NE[:end].T
            found: list[list[tuple[int, float]]] = [[] for _ in range(end - begin)]
            for row, other in zip(*np.nonzero(cosines >= similarity - 1e-6), strict=True):
                if other < begin + row:
                    found[row].append((int(other), float(min(cosines[row, other], 1.0))))
            for row, near in enumerate(found):
                yield begin + row, near
            job.reach(end)


def _twin(whole: Whole, place: int, kept: int, cosine: float) -> Twin:
    first, second = (" ".join(whole.texts[each].split())[:200] for each in (place, kept))
    return Twin(whole.documents[place], whole.documents[kept], cosine, first, second)
