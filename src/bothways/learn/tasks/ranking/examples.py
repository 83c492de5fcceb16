"""Queries with a part of their texts as sequences that stay together: what a `Stream` reads."""

from __future__ import annotations

import numpy as np

from bothways.chance import generator
from bothways.text.kept import Sequences


class QueryExamples:
    """For each query, its pairs with some texts.

    Where there are more texts than are compared, some are drawn anew in every epoch, as `drawn` says.

    Args:
        encoded: The pairs of all queries, one after the other, each a sequence.
        relevance: ``(P,)`` of each pair.
        starts: ``(Q + 1,)`` where the pairs of each query begin.
        most: The most texts of a query.
        seed: Of which are drawn.
    """

    def __init__(self, encoded: Sequences, relevance: np.ndarray, starts: np.ndarray, most: int, seed: int = 0) -> None:
        self.encoded, self.relevance, self.starts, self.most, self.seed = encoded, relevance, starts, most, seed

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sequence(self, epoch: int, number: int) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], np.ndarray]:
        """Token ids and segment ids of each pair, and ``(C,)`` float32 how relevant each is."""
        own = drawn(self.relevance, self.starts, self.most, epoch, number, self.seed)
        parts = [self.encoded[place] for place in own.tolist()]
        ids, segments = zip(*parts, strict=True)
        return ids, segments, self.relevance[own].astype(np.float32)


def drawn(relevance: np.ndarray, starts: np.ndarray, most: int, epoch: int, number: int, seed: int) -> np.ndarray:
    """The places of at most `most` of a query's texts: half of them, or more, for those that are not the best.

    Args:
        relevance: ``(P,)``.
        starts: ``(Q + 1,)``.
        most: How many.
        epoch: Of the example.
        number: Of the query.
        seed: Of the run.
    """
    places = np.arange(starts[number], starts[number + 1])
    if len(places) <= most:
        return places
    draw = generator("texts of a query", seed, epoch, number)
    own = relevance[places]
    best = draw.permutation(places[own > own.min()])
    rest = draw.permutation(places[own == own.min()])
    taken = max(1, min(len(best), most - min(len(rest), most // 2)))
    return np.sort(np.concatenate([best[:taken], rest[: most - taken]]))
