"""Whether probabilities mean what they say (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""

from __future__ import annotations

from typing import Any

import numpy as np

from bothways.learn.tasks.protocol import Examined

BINS = 15


def reliability(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """The expected calibration error and what it is made of (section 3 there).

    Args:
        confidences: ``(M,)`` the probability given to each guess.
        right: ``(M,)`` whether it was right, or the share of it that was, from 0 to 1.
        bins: How many of equal width the probabilities are sorted into.

    Returns:
        ``ece``, the mean distance between confidence and share right, bins weighted by their guesses; ``bins``, those
        that hold guesses: ``from``, ``to``, ``count``, ``confidence`` and ``right`` (their means).
    """
    confidences, right = np.asarray(confidences, np.float64), np.asarray(right, np.float64)
    place = np.clip(np.ceil(confidences * bins).astype(np.int64) - 1, 0, bins - 1)  # a bin holds its upper end
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, weights=values, minlength=bins) for values in (confidences, right)]
    filled = np.flatnonzero(counts)
    error = np.abs(sums[0] - sums[1]).sum() / max(1, len(confidences))
    rows = [
        {
            "from": number / bins,
            "to": (number + 1) / bins,
            "count": int(counts[number]),
            "confidence": float(sums[0][number] / counts[number]),
            "right": float(sums[1][number] / counts[number]),
        }
        for number in filled
    ]
    return {"ece": float(error), "bins": rows}


def untempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities as they were before logits were divided by a temperature.

    Args:
        probabilities: ``(M, C)`` with the temperature.
        temperature: What the logits were divided by.
    """
    logits = temperature * np.log(np.maximum(np.asarray(probabilities, np.float64), np.finfo(np.float32).tiny))
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def calibration(examined: Examined, temperature: float | None = None) -> dict[str, Any] | None:
    """How calibrated a model is, and how much it was before its temperature.

    Args:
        examined: With the right class and the probabilities of each of M decisions; without them its rows' confidence
            stands beside their credit.
        temperature: What the logits were divided by; None if nothing was fitted.

    Returns:
        `reliability`, with ``decisions``; and where there is a temperature ``temperature`` and ``before``, the
        `reliability` without it. None where the model gives no probabilities.
    """
    if examined.truth is None or examined.probabilities is None:
        confidences = np.array([row.confidence for row in examined.rows])
        known = np.isfinite(confidences)
        if not known.any():
            return None
        credit = np.array([row.credit for row in examined.rows])
        return {"decisions": int(known.sum()), **reliability(confidences[known], credit[known])}
    told = {"decisions": len(examined.truth), **_reliability(examined.truth, examined.probabilities)}
    if temperature is not None and temperature != 1:
        before = untempered(examined.probabilities, temperature)
        told |= {"temperature": float(temperature), "before": _reliability(examined.truth, before)}
    return told


def _reliability(truth: np.ndarray, probabilities: np.ndarray) -> dict[str, Any]:
    return reliability(probabilities.max(1), probabilities.argmax(1) == truth)
