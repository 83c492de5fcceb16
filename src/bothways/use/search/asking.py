"""How a query is answered: candidates by meaning and by words, fused, perhaps reranked, each document once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.use.search.filters import Filter
from bothways.use.search.fusion import reciprocal_ranks
from bothways.use.search.store import Scored, Store

if TYPE_CHECKING:
    from bothways.run.questions import Questions

WAYS = ("hybrid", "meaning", "words")
DEPTH = 100
"""How many passages each side brings, and how many are reranked."""


@dataclass(frozen=True)
class Hit:
    """A document that was found.

    Attributes:
        document: Its id.
        score: Higher is better: a cosine (or what the model compares by), BM25, what the reranker says, or of several
            orders the sum of reciprocal ranks.
        text: Its passage that fits best.
        number: Which passage of the document that is, from 0.
        metadata: What is known of the document.
        meaning: Its place by meaning, from 1; None if it is not among those.
        words: Its place by words; None if it is not among those.
    """

    document: str
    score: float
    text: str
    number: int
    metadata: Mapping[str, Any]
    meaning: int | None = None
    words: int | None = None


@dataclass(frozen=True)
class Wanted:
    """What is wanted of every query.

    Attributes:
        top: How many documents.
        by: One of `WAYS`.
        where: Which documents are asked; None for all.
        judge: The cross-encoder that orders what was found anew; None for none.
        share: What its order counts beside the first one, 1: it alone.
        depth: How many passages each side brings, and how many are reranked.
        exact: Whether all vectors are compared.
    """

    top: int
    by: str
    where: Filter | None
    judge: Questions | None
    share: float
    depth: int
    exact: bool


def answer(store: Store, query: str, vector_E: np.ndarray | None, wanted: Wanted) -> list[Hit]:
    """The hits of a query, best first.

    Args:
        store: Where the passages are.
        query: As it was typed.
        vector_E: What it means; None to search by words alone.
        wanted: What is wanted.
    """
    depth, where = wanted.depth, wanted.where
    meaning = [] if vector_E is None else _by_document(store.nearest(vector_E, depth, where, exact=wanted.exact))
    words = [] if wanted.by == "meaning" else _by_document(store.matching(query, depth, where))
    sides = [[one.key.document for one in side] for side in (meaning, words)]
    best = {one.key.document: one for one in [*words, *meaning]}
    scores = {name: one.score for name, one in best.items()}
    if wanted.by == "hybrid":
        scores = reciprocal_ranks(sides)
    names = list(scores)[: wanted.top if wanted.judge is None else depth]
    passages = store.fetch([best[name].key for name in names])
    names = [name for name in names if best[name].key in passages]  # one may have been deleted meanwhile
    if wanted.judge is not None and names:
        ranked: Any = wanted.judge.rerank(query, [passages[best[name].key].text for name in names])
        scores = {names[one.place]: float(one.score) for one in ranked}
        if wanted.share < 1:
            scores = reciprocal_ranks([names, list(scores)], [1 - wanted.share, wanted.share])
        names = list(scores)[: wanted.top]
    places = [{name: place for place, name in enumerate(side, start=1)} for side in sides]
    found = [(name, passages[best[name].key]) for name in names]
    return [
        Hit(name, scores[name], each.text, each.number, each.metadata, places[0].get(name), places[1].get(name))
        for name, each in found
    ]


def _by_document(found: Sequence[Scored]) -> list[Scored]:
    """The best passage of each document, in their order."""
    best: dict[str, Scored] = {}
    for one in found:
        best.setdefault(one.key.document, one)
    return list(best.values())
