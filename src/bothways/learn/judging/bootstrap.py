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


def interval(values: np.ndarray, value: float, level: float = LEVEL) -> list[float]:
    """The two ends between which `level` of resampled values lie, moved by the bias that resampling has.

    Some metrics have one: rare classes are missing from many resamples, which changes a mean over those that occur.

    Args:
        values: ``(R,)``; NaN is left out.
        value: The metric on the examples themselves.
        level: Between 0 and 1.

    Returns:
        The lower and the upper end; NaN where nothing is left.
    """
    known = _centred(values, value)
    if not len(known):
        return [float("nan"), float("nan")]
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    never_negative, never_above = np.nanmin(values) >= 0, np.nanmax(values) <= 1  # and the move does not make it so
    low = max(low, 0.0) if never_negative else low
    return [float(low), float(min(high, 1.0) if never_negative and never_above else high)]


def by_chance(differences: np.ndarray, difference: float) -> float:
    """How likely a difference of this size or more is by chance, two-sided.

    Args:
        differences: ``(R,)`` on resamples.
        difference: On the examples themselves.
    """
    known = _centred(differences, difference)
    if not len(known):
        return 1.0
    least = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (1 + least) / (1 + len(known))))


def _centred(values: np.ndarray, value: float) -> np.ndarray:
    """Resampled values without their bias (Efron and Tibshirani, chapter 10), those that are no numbers left out."""
    known = values[np.isfinite(values)]
    return known - (known.mean() - value) if len(known) and np.isfinite(value) else known
