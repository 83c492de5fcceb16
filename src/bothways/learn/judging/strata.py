"""Where a model is good and where it is not: the same metric over groups of examples.

Shapes: N examples.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.learn.judging.bootstrap import all_right, interval
from bothways.learn.tasks.protocol import Examined

_FEWEST = 20
"""Examples in a group: fewer say nothing."""
_RESAMPLES = 200
_SHARES = (0.7, 0.8, 0.9, 1.0)
"""Where groups by the share of known words begin."""
_WORD = re.compile(r"\w+")


def by_length(examined: Examined, metric: str, lengths: np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
    """A metric over five groups of examples, from the shortest to the longest.

    Args:
        examined: Of N examples.
        metric: Its name.
        lengths: ``(N,)`` in tokens.
        seed: Of the intervals.

    Returns:
        Groups: ``from`` and ``to`` (the shortest and the longest of it), ``examples``, ``value``, ``low``, ``high``.
    """
    edges = np.unique(np.quantile(lengths, [0.2, 0.4, 0.6, 0.8], method="closest_observation"))
    return _groups(examined, metric, lengths, edges, seed)


def by_familiarity(examined: Examined, metric: str, known: np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
    """A metric over groups of examples, from those with the most unknown words to those with none.

    Args:
        examined: Of N examples.
        metric: Its name.
        known: ``(N,)`` the share of an example's words that the training data hold, as `known_words` finds it.
        seed: Of the intervals.

    Returns:
        Groups as of `by_length`.
    """
    return _groups(examined, metric, known, np.array(_SHARES), seed)


def known_words(texts: Sequence[str], training: Sequence[str]) -> np.ndarray:
    """``(N,)`` the share of each text's words that the training texts hold, whatever their case; 1 without words."""
    vocabulary = {word for text in training for word in _WORD.findall(text.lower())}
    shares = []
    for text in texts:
        words = _WORD.findall(text.lower())
        shares.append(sum(word in vocabulary for word in words) / len(words) if words else 1.0)
    return np.array(shares)


def _groups(examined: Examined, metric: str, values: np.ndarray, edges: np.ndarray, seed: int) -> list[dict[str, Any]]:
    """Groups between edges, small ones joined with the next."""
    numbers = np.searchsorted(edges, values, side="right")
    parts: list[np.ndarray] = []
    waiting = np.array([], dtype=np.int64)
    for number in range(len(edges) + 1):
        waiting = np.sort(np.concatenate([waiting, np.flatnonzero(numbers == number)]))
        if len(waiting) >= _FEWEST:
            parts.append(waiting)
            waiting = waiting[:0]
    if len(waiting) and parts:
        parts[-1] = np.sort(np.concatenate([parts[-1], waiting]))
    return [_group(examined, metric, values, places, seed) for places in parts] if len(parts) > 1 else []


def _group(examined: Examined, metric: str, values: np.ndarray, places: np.ndarray, seed: int) -> dict[str, Any]:
    draw = generator("strata", seed)
    drawn = [examined.resampled(draw.choice(places, len(places)))[metric] for _ in range(_RESAMPLES)]
    value = float(examined.resampled(places)[metric])
    right = all_right([examined.rows[int(place)].credit for place in places])
    low, high = interval(np.array(drawn), value, right=right)
    return {
        "from": values[places].min().item(),
        "to": values[places].max().item(),
        "examples": len(places),
        "value": value,
        "low": low,
        "high": high,
    }
