"""How far a score can be trusted: the same examples drawn again and again, with repetition.

Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 10 and 13 (bias, percentile intervals); Koehn
2004, "Statistical significance tests for machine translation evaluation" (paired resamples).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.chance import generator
from bothways.learn.tasks.protocol import Examined

LEVEL = 0.95
"""The share of intervals that hold the true score."""
_RESAMPLES, _FEW, _MANY = 1000, 200, 50_000
"""Of more examples than `_MANY` fewer resamples are drawn: their intervals are narrow, and each draw is long."""


def suited_resamples(examples: int) -> int:
    """How many resamples are drawn of so many examples."""
    return _RESAMPLES if examples <= _MANY else _FEW


def resample(
    contenders: Sequence[Examined], metrics: Sequence[str], *, resamples: int | None = None, seed: int = 0
) -> np.ndarray:
    """The metrics of several contenders on the same resamples of the same N examples, so that they can be paired.

    Args:
        contenders: K judgements of the same examples.
        metrics: M names of metrics.
        resamples: R, how often N of the N examples are drawn with repetition; None: what suits their number.
        seed: Of the draws.

    Returns:
        ``(K, R, M)`` float64; NaN where a metric is not defined on a resample.
    """
    count = len(contenders[0].rows)
    draws = resamples or suited_resamples(count)
    draw = generator("bootstrap", seed)
    found = np.empty((len(contenders), draws, len(metrics)))
    for number in range(draws):
        places = draw.integers(0, count, count)
        for contender, examined in enumerate(contenders):
            values = examined.resampled(places)
            found[contender, number] = [values[name] for name in metrics]
    return found


def interval(values: np.ndarray, value: float, level: float = LEVEL, *, right: int = 0) -> list[float]:
    """The two ends between which `level` of resampled values lie, moved by the bias that resampling has.

    Some metrics have one: rare classes are missing from many resamples, which changes a mean over those that occur.

    Args:
        values: ``(R,)``; NaN is left out.
        value: The metric on the examples themselves.
        level: Between 0 and 1.
        right: N where all N examples are right: no resample knows of a mistake then, and a score of 1 gets the exact
            lower end of so many successes (Clopper and Pearson 1934).

    Returns:
        The lower and the upper end; NaN where nothing is left.
    """
    if right and value == 1.0:
        return [((1 - level) / 2) ** (1 / right), 1.0]
    known = _centred(values, value)
    if not len(known):
        return [float("nan"), float("nan")]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    never_negative, never_above = np.nanmin(values) >= 0, np.nanmax(values) <= 1  # and the move does not make it so
    low = max(low, 0.0) if never_negative else low
    return [float(low), float(min(high, 1.0) if never_negative and never_above else high)]


def by_chance(differences: np.ndarray, difference: float, differing: int) -> float:
    """How likely a difference of this size or more is by chance, two-sided.

    Resamples of a few examples hardly ever show none of them, so they are not believed further than examples that are
    told apart by a coin each: of D that differ all fall to one side in one of 2 to the D - 1 cases.

    Args:
        differences: ``(R,)`` on resamples.
        difference: On the examples themselves.
        differing: D, as `differing_examples` says.
    """
    known = _centred(differences, difference)
    if not len(known) or not differing:
        return 1.0
    least = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, max(0.5 ** (differing - 1), 2 * (1 + least) / (1 + len(known)))))


def differing_examples(one: Examined, other: Examined, metrics: Sequence[str]) -> dict[str, int]:
    """On how many examples two judgements differ, by metric: all, where a metric sees more than guesses and credits."""
    count = len(one.rows)
    same = np.array([a.guess == b.guess and a.credit == b.credit for a, b in zip(one.rows, other.rows, strict=True)])
    if not same.any():
        return dict.fromkeys(metrics, count)
    alike = [side.resampled(np.flatnonzero(same)) for side in (one, other)]
    few = count - int(same.sum())
    return {name: few if np.array_equal(alike[0][name], alike[1][name], equal_nan=True) else count for name in metrics}


def all_right(credits: Sequence[float] | np.ndarray) -> int:
    """How many examples there are, if all are right; else 0."""
    return len(credits) if len(credits) and bool((np.asarray(credits) == 1.0).all()) else 0


def _centred(values: np.ndarray, value: float) -> np.ndarray:
    """Resampled values without their bias (Efron and Tibshirani, chapter 10), those that are no numbers left out.

    What the luck of the draw explains is no bias, and stays: else values of few kinds would lie beside where they are.
    """
    known = values[np.isfinite(values)]
    if not len(known) or not np.isfinite(value):
        return known
    bias = known.mean() - value
    return known if abs(bias) <= 3 * known.std() / np.sqrt(len(known)) else known - bias
