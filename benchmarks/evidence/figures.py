"""Spreads, paired tests and tables in Markdown."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Sequence

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


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table of the lines that say something; nothing where none does."""
    told = [line for line in lines if any(cell not in ("", NOTHING) for cell in line[1:])]
    parts = [heads, ["---"] * len(heads), *told]
    return "\n".join("| " + " | ".join(line) + " |" for line in parts) if told else ""
