"""Several rankings become one."""

from __future__ import annotations

from collections.abc import Sequence

DEPTH = 60
"""How little the first places count beside the next ones: k of the paper."""


def reciprocal_ranks(rankings: Sequence[Sequence[str]], weights: Sequence[float] | None = None) -> dict[str, float]:
    """Adds up what each ranking says: 1 / (60 + place). Scores of different scales need no fitting to each other.

    Cormack, Clarke and Büttcher 2009, "Reciprocal Rank Fusion Outperforms Condorcet and Individual Rank Learning
    Methods", section 2.

    Args:
        rankings: Names, best first, none twice in a ranking.
        weights: What each ranking counts; None: all 1.

    Returns:
        A score for every name, best first; of equal ones the earlier in the first ranking.
    """
    scores: dict[str, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for place, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + weight / (DEPTH + place)
    return dict(sorted(scores.items(), key=lambda item: -item[1]))
