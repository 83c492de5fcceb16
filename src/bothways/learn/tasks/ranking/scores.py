"""How well queries' texts are ranked, query by query.

Shapes: P texts of Q queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.chance import generator

_SHOWN = 10
"""Ranks that people look at: the 10 of nDCG@10 and MRR@10."""


def ranking_scores(relevance_P: np.ndarray, scores_P: np.ndarray, slices: Sequence[slice]) -> dict[str, np.ndarray]:
    """Three figures of each query's ranking, as trec_eval computes them.

    Texts of equal scores come in an order drawn once, as trec_eval has them in that of their names: the order of the
    rows often says what is right.

    Args:
        relevance_P: ``(P,)`` how relevant each text is; above 0 is relevant.
        scores_P: ``(P,)`` what ranks them, the highest first.
        slices: For each of the Q queries where its texts lie.

    Returns:
        By name ``(Q,)`` float64, NaN for a query without a relevant text: ``ndcg@10`` (Järvelin and Kekäläinen 2002,
        the gain being the relevance), ``mrr@10`` and ``map``.
    """
    found = np.full((3, len(slices)), np.nan)
    for query, own in enumerate(slices):
        drawn = generator("equal scores", query).permutation(len(scores_P[own]))
        gains = np.maximum(relevance_P[own], 0.0)[np.lexsort((drawn, -scores_P[own]))]
        if gains.any():
            found[:, query] = _ndcg(gains), _reciprocal(gains), _average_precision(gains)
    return dict(zip(("ndcg@10", "mrr@10", "map"), found, strict=True))


def _ndcg(gains: np.ndarray) -> float:
    discounts = 1 / np.log2(np.arange(2, min(len(gains), _SHOWN) + 2))
    best = np.sort(gains)[::-1][: len(discounts)]
    return float(gains[: len(discounts)] @ discounts / (best @ discounts))


def _reciprocal(gains: np.ndarray) -> float:
    hits = np.flatnonzero(gains[:_SHOWN])
    return 1 / (1 + int(hits[0])) if len(hits) else 0.0


def _average_precision(gains: np.ndarray) -> float:
    ranks = np.flatnonzero(gains) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))
