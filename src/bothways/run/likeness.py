"""How like two engines' outputs are: what lower precision or another runtime changed. Plain NumPy.

Shapes: N rows, D width, C classes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch
from bothways.model.config import HeadConfig


class Likeness(NamedTuple):
    """What was compared, summed up.

    Attributes:
        compared: Vectors or decisions.
        worst_cosine: Of vectors; None where there were none.
        mean_cosine: Of vectors.
        equal: The share of decisions that are the same; None where there were none.
        largest: The largest difference of two numbers.
    """

    compared: int
    worst_cosine: float | None
    mean_cosine: float | None
    equal: float | None
    largest: float


def vectors_alike(found_ND: np.ndarray, exact_ND: np.ndarray) -> Likeness:
    """Compares vectors, or hidden states, by their cosines.

    Args:
        found_ND: ``(N, D)`` of the engine in question.
        exact_ND: ``(N, D)`` of the one to be like.
    """
    found, exact = found_ND.astype(np.float64), exact_ND.astype(np.float64)
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    both_zero = ~found.any(1) & ~exact.any(1)
    cosines = np.where(both_zero, 1.0, (found * exact).sum(1) / np.maximum(norms, 1e-30))
    cosines = np.where(np.isfinite(cosines), cosines, -1.0)
    worst, mean = (float(cosines.min()), float(cosines.mean())) if len(cosines) else (1.0, 1.0)
    return Likeness(len(found), worst, mean, None, _largest(found, exact))


def decisions_alike(found: np.ndarray, exact: np.ndarray, head: HeadConfig, batch: TokenBatch) -> Likeness:
    """Compares what a head's numbers decide.

    Args:
        found: Of the engine in question, as `Output` has them for the head.
        exact: Of the one to be like.
        head: What the numbers mean.
        batch: What they belong to.
    """
    same = _decisions(found, head, batch) == _decisions(exact, head, batch)
    equal = None if head.problem == "scores" else float(same.mean()) if same.size else 1.0
    return Likeness(same.size, None, None, equal, _largest(found, exact))


def together(parts: list[Likeness]) -> Likeness:
    """Several comparisons as one, such as of several batches; at least one."""
    count = sum(part.compared for part in parts)

    def mean(values: list[float | None]) -> float | None:
        known = [
            (value, part.compared) for value, part in zip(values, parts, strict=True) if value is not None and count
        ]
        return sum(value * share for value, share in known) / count if known else None

    worst = [part.worst_cosine for part in parts if part.worst_cosine is not None]
    return Likeness(
        count,
        min(worst, default=None),
        mean([part.mean_cosine for part in parts]),
        mean([part.equal for part in parts]),
        max(part.largest for part in parts),
    )


def _largest(found: np.ndarray, exact: np.ndarray) -> float:
    difference = np.abs(found - exact)
    return float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))


def _decisions(values: np.ndarray, head: HeadConfig, batch: TokenBatch) -> np.ndarray:
    """What is decided: the likeliest class, yes or no, or where an answer begins and ends."""
    if head.kind == "answer":
        edges = zip(batch.starts[:-1], batch.starts[1:], strict=True)
        return np.stack([values[a:b].argmax(0) for a, b in edges])
    if head.kind in ("rtd", "choose") or head.problem == "several":
        return values > 0
    return values.argmax(-1)
