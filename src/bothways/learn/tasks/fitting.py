"""What is fitted after training, on examples that were not trained on: temperature and thresholds.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import numpy as np

from bothways.errors import need

COLDEST, HOTTEST = 0.05, 20.0
EXPECTED = 0.5
_HALF = 0.5


def fit_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with which probabilities fit what is right best (Guo et al. 2017, section 4.2).

    It minimises the cross-entropy and never changes the likeliest class. A few examples tell little of it, so its
    logarithm is expected near 0, give or take `EXPECTED`, which many examples outweigh.

    Args:
        logits: ``(N, C)``.
        truth: ``(N,)`` the right class, or ``(N, C)`` flags where each class is decided by itself.
    """
    need("scipy", "torch", "Fitting a temperature")
    from scipy.optimize import minimize_scalar

    logits = np.asarray(logits, dtype=np.float64)
    several = truth.ndim == 2

    def loss(log_temperature: float) -> float:
        scaled, prior = logits / np.exp(log_temperature), (log_temperature / EXPECTED) ** 2 / 2
        if several:
            return float(np.logaddexp(0, np.where(truth > 0, -scaled, scaled)).mean(1).sum() + prior)
        right = np.take_along_axis(scaled, truth[:, None], 1)[:, 0]
        return float((np.logaddexp.reduce(scaled, axis=1) - right).sum() + prior)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def fit_thresholds(probabilities: np.ndarray, flags: np.ndarray) -> np.ndarray:
    """For each label the probability from which it is given, so that its F1 is highest; one half where none is right.

    Between two neighbouring probabilities the middle is taken; of thresholds that are equally good the one nearest to
    one half.

    Args:
        probabilities: ``(N, C)``.
        flags: ``(N, C)`` 1 where a label is right.

    Returns:
        ``(C,)`` float64, each between 0 and 1.
    """
    pairs = zip(np.asarray(probabilities, dtype=np.float64).T, (np.asarray(flags) > 0).T, strict=True)
    return np.array([_threshold(shares, right) for shares, right in pairs])


def _threshold(shares: np.ndarray, right: np.ndarray) -> float:
    if not right.any():
        return _HALF
    order = np.argsort(-shares, kind="stable")
    shares, hits = shares[order], np.cumsum(right[order])
    given = np.arange(1, len(shares) + 1)
    f1 = 2 * hits / (given + right.sum())
    last = np.append(shares[1:] < shares[:-1], True)  # equal probabilities are given together
    below = np.append(shares[1:], 0.0)
    best = np.flatnonzero(last & (f1 >= f1[last].max() - 1e-12))
    lows, highs = below[best], shares[best]
    found = np.where((lows < _HALF) & (highs >= _HALF), _HALF, (lows + highs) / 2)
    return float(found[np.argmin(np.abs(found - _HALF))])
