"""Texts in the order in which they answer a query.

Shapes: N pairs of a query and a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answering import classify
from bothways.run.answering.late import pair_maxsim
from bothways.run.answering.sparse import sparse_vectors
from bothways.run.answers import Ranked

if TYPE_CHECKING:
    from bothways.run.runner import Runner


class PairScores(NamedTuple):
    """What a model says of N pairs.

    Attributes:
        raw: ``(N,)`` float32 what they are ranked by; it never saturates.
        told: ``(N,)`` float32 as people and other libraries are told: between 0 and 1 where that is what was trained.
    """

    raw: np.ndarray
    told: np.ndarray


def pair_scores(model: Runner, queries: Sequence[str], texts: Sequence[str]) -> PairScores:
    """How well each text answers its query.

    Raises:
        BothwaysError: The model has no head that reads pairs.
    """
    head = model.head_configs.get("classify")
    if head is not None and head.problem == "scores":
        raw = classify.raw_scores(model, queries, texts)
        return PairScores(raw, classify.activated(model, raw))
    if head is None and "late" in model.head_configs:
        raw = pair_maxsim(model, queries, texts)
        return PairScores(raw, raw)
    if head is None and "sparse" in model.decoding:
        raw = _row_products(sparse_vectors(model, queries), sparse_vectors(model, texts))
        return PairScores(raw, raw)
    shares = classify.score_pairs(model, queries, texts)
    return PairScores(shares, shares)


def _row_products(one: Any, other: Any) -> np.ndarray:
    """``(N,)`` float32 products of sparse rows that stand beside each other."""
    return np.asarray(one.multiply(other).sum(axis=1), dtype=np.float32).reshape(-1)


def rerank(
    model: Runner, queries: Sequence[str], texts: Sequence[Sequence[str]], top: int | None
) -> list[list[Ranked]]:
    """The texts of each query, best first; as `Model.rerank` says."""
    if len(queries) != len(texts):
        raise BothwaysError(f"{len(queries):,} queries and {len(texts):,} lists of texts do not go together")
    if top is not None and top < 1:
        raise BothwaysError(f"top must be 1 or more, not {top!r}")
    for place, (query, own) in enumerate(zip(queries, texts, strict=True)):
        if not query.strip():
            raise BothwaysError(f"query {place + 1} is empty: there is nothing to rank texts by")
        if isinstance(own, str):
            raise BothwaysError(f"the texts of query {place + 1} should be a list of texts, not one text")
    counts = [len(own) for own in texts]
    repeated = [query for query, count in zip(queries, counts, strict=True) for _ in range(count)]
    found = pair_scores(model, repeated, [text for own in texts for text in own])
    ranked, begin = [], 0
    for own in texts:
        raw, told = (values[begin : begin + len(own)] for values in found)
        order = np.argsort(-raw, kind="stable")[:top]
        ranked.append([Ranked(int(place), float(told[place]), own[place]) for place in order])
        begin += len(own)
    return ranked
