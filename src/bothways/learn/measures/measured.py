"""What every measure gives: scores of examples, and how far the first of them can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.learn.judging.bootstrap import interval, suited_resamples
from bothways.learn.tasks.protocol import Examined


@dataclass(frozen=True)
class Measured:
    """Scores of N examples.

    Attributes:
        scores: By name, the main one first.
        examples: N: pairs, queries or texts.
        resampled: The main score of some of the examples, by their places; None where it cannot be told.
        facts: What else is to be known, by name: how many documents, which threshold.
    """

    scores: dict[str, float]
    examples: int
    resampled: Callable[[np.ndarray], float] | None = None
    facts: dict[str, Any] | None = None

    def described(self, seed: int) -> dict[str, Any]:
        """Plain data: the ``main`` score's name, its ``interval`` of 95 %, all ``scores``, ``examples`` and facts."""
        main = next(iter(self.scores))
        found: dict[str, Any] = {"main": main, "interval": None, "scores": self.scores, "examples": self.examples}
        if self.resampled is not None and self.examples > 1:
            draw = generator("bootstrap", seed)
            places = (draw.integers(0, self.examples, self.examples) for _ in range(suited_resamples(self.examples)))
            found["interval"] = interval(np.array([self.resampled(some) for some in places]), self.scores[main])
        return found | (self.facts or {})


def of_means(values: dict[str, np.ndarray], facts: dict[str, Any] | None = None) -> Measured:
    """Scores that are means over N examples.

    Args:
        values: By name ``(N,)``, the main one first.
        facts: As in `Measured`.
    """
    main = next(iter(values.values()))
    means = {name: float(each.mean()) for name, each in values.items()}
    return Measured(means, len(main), lambda places: float(main[places].mean()), facts)


def of_examined(examined: Examined, names: tuple[str, ...], facts: dict[str, Any] | None = None) -> Measured:
    """Scores as tasks make them, of which some are wanted, the main one first."""
    scores = {name: float(examined.scores[name]) for name in names}
    return Measured(scores, len(examined.rows), lambda places: float(examined.resampled(places)[names[0]]), facts)
