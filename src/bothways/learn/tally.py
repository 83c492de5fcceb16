"""Sums and counts, and the means they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bothways.learn.processes import here
from bothways.learn.protocol import Item, Objective


@dataclass
class Tally:
    """Sums by name and the counts to divide them by, added up over items and steps.

    Attributes:
        sums: ``"loss.mlm"``, ``"hits.mlm"``, ...: what comes after the last point is the kind of prediction.
        counts: Predictions of each kind.
        weights: Of the kinds whose losses do not count once in the whole loss.
    """

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, sums: Mapping[str, float], counts: Mapping[str, int]) -> None:
        """Adds sums and the counts that belong to them."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        for kind, count in counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count

    def together(self) -> Tally:
        """The sums and counts of all processes."""
        return Tally(here().summed(self.sums), here().summed(self.counts), self.weights)

    def means(self) -> dict[str, float]:
        """The means by name; ``hits`` become ``accuracy``, ``loss`` is the weighted sum of the losses of all kinds."""
        means = {
            name.replace("hits", "accuracy", 1): value / max(1, self.counts[name.rpartition(".")[2]])
            for name, value in self.sums.items()
        }
        losses = {name.partition(".")[2]: value for name, value in means.items() if name.startswith("loss.")}
        return {"loss": sum(self.weights.get(kind, 1.0) * value for kind, value in losses.items()), **means}


def count_items(objective: Objective, items: Iterable[Item]) -> dict[str, int]:
    """The predictions of each kind in several items, those of other processes too."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(objective.counts(item))
    return here().summed(counts)


def evaluate_items(model: Any, objective: Objective, items: Iterable[Item]) -> dict[str, float]:
    """The means of an objective over held-out items, each process's own, as an `Evaluation` runs it."""
    tally = Tally(weights=dict(getattr(objective, "weights", {})))
    for item in items:
        tally.add(objective.evaluate(model, item), objective.counts(item))
    return tally.together().means()
