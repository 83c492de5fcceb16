"""Rankings of a model beside what is relevant.

Shapes: Q queries, P texts of all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.learn.metrics import regression_scores
from bothways.learn.tasks.protocol import Examined, Judged, Rows
from bothways.learn.tasks.ranking.data import Rankings
from bothways.learn.tasks.ranking.scores import ranking_scores

_HALF = 0.5
BINARY = ("average_precision", "f1", "accuracy")
SCORES = ("spearman", "pearson", "mse", "mae")
ORDER = ("ndcg@10", "mrr@10", "map")


def judge_binary(data: Rankings, probabilities: np.ndarray, raw: np.ndarray | None = None) -> Examined:
    """Texts that answer or do not; where queries have several, their order is scored too.

    Args:
        data: Q queries; what is above 0 is relevant.
        probabilities: ``(P,)`` that each text is relevant.
        raw: ``(P,)`` the scores that they come from, which still differ where probabilities are all 1; None where they
            are all there is.
    """
    truth = data.relevance > 0
    raw = probabilities if raw is None else raw
    ranked = _ranked(data, raw)

    def measured(places: np.ndarray) -> dict[str, float]:
        own = data.texts_of(places)
        return _binary_scores(truth[own], probabilities[own], raw[own])

    slices = data.slices()

    def judged(number: int) -> Judged:
        own = slices[number]
        right = bool(np.all((probabilities[own] >= _HALF) == truth[own]))
        sure = float(np.min(np.maximum(probabilities[own], 1 - probabilities[own])))
        return _row(data, own, probabilities, number, float(right), sure)

    every = np.arange(len(data))
    both = np.stack([1 - probabilities, probabilities], axis=1).astype(np.float32)
    scores = {**measured(every), **_means(ranked, every), **_counts(data)}
    return Examined(scores, Rows(len(data), judged), measured, ("other", "relevant"), truth.astype(np.int64), both)


def judge_numbers(data: Rankings, guessed: np.ndarray) -> Examined:
    """Texts with a score each.

    Args:
        data: Q queries.
        guessed: ``(P,)`` the scores that a model gives.
    """

    def measured(places: np.ndarray) -> dict[str, float]:
        own = data.texts_of(places)
        found = regression_scores(data.relevance[own], guessed[own])
        return {name: found[name] for name in SCORES}

    slices = data.slices()

    def judged(number: int) -> Judged:
        own = slices[number]
        return _row(data, own, guessed, number, -float(np.abs(data.relevance[own] - guessed[own]).mean()))

    scores: dict[str, Any] = {**measured(np.arange(len(data))), **_counts(data)}
    return Examined(scores, Rows(len(data), judged), measured, guesses=guessed)


def judge_order(data: Rankings, scored: np.ndarray) -> Examined:
    """Texts in the order of their scores; a query's credit is its nDCG@10.

    Args:
        data: Q queries.
        scored: ``(P,)`` what ranks them.
    """
    ranked, slices = _ranked(data, scored), data.slices()

    def judged(number: int) -> Judged:
        return _row(data, slices[number], scored, number, float(np.nan_to_num(ranked["ndcg@10"][number], nan=1.0)))

    scores: dict[str, Any] = {**_means(ranked, np.arange(len(data))), **_counts(data)}
    return Examined(scores, Rows(len(data), judged), lambda places: _means(ranked, places), guesses=scored)


def _row(
    data: Rankings, own: slice, scored: np.ndarray, number: int, credit: float, sure: float = float("nan")
) -> Judged:
    """A query above its texts, as they are ranked, for people to read."""
    order = np.argsort(-scored[own], kind="stable")[:5] + own.start
    listed = [f"{scored[place]:.3f} ({data.relevance[place]:g}) {data.texts[place]}" for place in order.tolist()]
    truth = ", ".join(f"{each:g}" for each in data.relevance[own])
    guess = ", ".join(f"{each:.3g}" for each in scored[own])
    return Judged("\n".join((data.queries[number], *listed)), truth, guess, credit, sure)


def _ranked(data: Rankings, scored: np.ndarray) -> dict[str, np.ndarray]:
    return ranking_scores(data.relevance, scored, data.slices())


def _means(ranked: dict[str, np.ndarray], places: np.ndarray) -> dict[str, float]:
    """Over the queries that have a relevant text."""
    told = {name: each[places][~np.isnan(each[places])] for name, each in ranked.items()}
    return {name: float(each.mean()) if len(each) else float("nan") for name, each in told.items()}


def _counts(data: Rankings) -> dict[str, int]:
    return {"examples": len(data), "texts": len(data.texts)}


def _binary_scores(truth: np.ndarray, probabilities: np.ndarray, raw: np.ndarray) -> dict[str, float]:
    from sklearn.metrics import average_precision_score

    given = probabilities >= _HALF
    hits = float((given & truth).sum())
    return {
        "average_precision": float(average_precision_score(truth, raw)) if truth.any() else float("nan"),
        "f1": 2 * hits / max(1.0, float(given.sum() + truth.sum())),
        "accuracy": float((given == truth).mean()),
    }
