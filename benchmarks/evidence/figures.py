"""Spreads, paired tests and tables in Markdown."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

NOTHING = "–"
"""Stands where a cell is not done yet."""


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and deviation of several seeds, or a dash where there is none."""
    if not values:
        return NOTHING
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def by_chance(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How likely a mean difference at least so large is if signs of the paired differences are chance (two-sided).

    All sign patterns up to 2 to the 16th, else that which was seen and 100,000 drawn ones: the sign-flip test (Fisher
    1935; Phipson and Smyth 2010).
    """
    differences = np.asarray(ours, float) - np.asarray(theirs, float)
    if len(differences) <= 16:
        signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    else:
        signs = np.random.default_rng(0).choice((1, -1), (100_001, len(differences)))
        signs[0] = 1
    means = np.abs((signs * differences).mean(1))
    return float((means >= abs(differences.mean()) - 1e-12).mean())


def chance(p: float) -> str:
    """How likely, to three digits."""
    return "p < 0.001" if p < 0.0005 else f"p {p:.3f}"


FEWEST = 6
"""Pairs of which chance can say anything: of fewer, no result is rarer than one in thirty-two."""
Pairs = Mapping[str, Sequence[tuple[float, float]]]
"""By task, the scores of a row and of another with the same seed."""


@dataclass(frozen=True)
class Difference:
    """How far a row is above another.

    Attributes:
        points: The mean over all pairs, in points of a hundred.
        pairs: How many there are.
        by_seed: The sign-flip test over all pairs: whether other seeds of fine-tuning would say the same of these
            tasks; None of fewer than `FEWEST`.
        by_task: The same with the mean of each task as one pair: whether other tasks would say the same; None
            likewise.
    """

    points: float
    pairs: int
    by_seed: float | None
    by_task: float | None

    def __str__(self) -> str:
        """Such as ``+2.3 (p 0.003; by task 0.078)``."""
        told = [] if self.by_seed is None else [chance(self.by_seed)]
        told += [] if self.by_task is None else [f"by task {chance(self.by_task).removeprefix('p ')}"]
        return f"{self.points:+.1f}" + (f" ({'; '.join(told)})" if told else "")


def difference(pairs: Pairs) -> Difference | None:
    """How far the first of all pairs are above the second; None where there is no pair."""
    every = np.array([pair for of_task in pairs.values() for pair in of_task])
    if not len(every):
        return None
    means = np.array([np.mean(of_task, axis=0) for of_task in pairs.values() if len(of_task)])
    tests = [by_chance(*each.T) if len(each) >= FEWEST else None for each in (every, means)]
    return Difference(100 * float(np.subtract(*every.T).mean()), len(every), *tests)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Where the mean of such values lies with 95 % confidence (Student's t)."""
    from scipy.stats import t

    width = float(t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - width, statistics.mean(values) + width


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of the lines that say something; nothing where none does."""
    told = [line for line in lines if any(cell not in ("", NOTHING) for cell in line[1:])]
    parts = [heads, ["---"] * len(heads), *told]
    return "\n".join("| " + " | ".join(line) + " |" for line in parts) if told else ""
