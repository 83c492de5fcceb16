"""What lower precision must keep, compared with float32, and what is remembered of such a comparison: plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import inf
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.engines.protocol import VECTOR
from bothways.run.task import TASK_HEADS

WORST_COSINE, EQUAL_DECISIONS = 0.999, 0.995
FASTEST = "fastest"
"""Under which the fastest precision of each kind of processor is noted, beside what is known of each precision."""


@dataclass(frozen=True)
class Bound:
    """What lower precision must keep.

    Attributes:
        worst_cosine: The least cosine of any vector with its float32 form; of models that give vectors.
        equal_decisions: The least share of equal decisions; of each head.
    """

    worst_cosine: float = WORST_COSINE
    equal_decisions: float = EQUAL_DECISIONS

    def __str__(self) -> str:
        return f"worst cosine {self.worst_cosine}, {self.equal_decisions:.1%} equal decisions"

    def holds(self, check: Mapping[str, Any]) -> bool:
        """Whether what a model is used for stays within it, by what `bothways.run.check.compare_engines` found."""
        return all(
            found.get("worst_cosine", inf) >= self.worst_cosine and found.get("equal", inf) >= self.equal_decisions
            for found in judged(check).values()
        )


@dataclass(frozen=True)
class Metric:
    """A number that a model reaches on labelled data, of which lower precision may lose a little.

    Attributes:
        name: Such as ``"macro_f1"``.
        measure: Gives it for a model; more is better.
        loss: How much of it may be lost.
    """

    name: str
    measure: Callable[[Any], float]
    loss: float


LOSS = 0.005


def asked_metric(metric: Callable[[Any], float] | None, allowed_loss: float | None) -> Metric | None:
    """The metric that a user gives, named by her function; None where she gives none.

    Raises:
        BothwaysError: There is a loss without a metric, or it is below 0.
    """
    if metric is None:
        if allowed_loss is not None:
            raise BothwaysError(
                "an allowed loss is of a metric: give labelled data (--labelled FILE), or in Python a metric"
            )
        return None
    if allowed_loss is not None and not allowed_loss >= 0:
        raise BothwaysError(f"allowed_loss must be 0 or more, such as {LOSS}, not {allowed_loss}")
    return Metric(getattr(metric, "__name__", "the metric"), metric, LOSS if allowed_loss is None else allowed_loss)


def asked_bound(worst_cosine: float | None, equal_decisions: float | None) -> Bound | None:
    """The bound that a user asks for; None where she says nothing.

    Raises:
        BothwaysError: A share is not between 0 and 1.
    """
    if worst_cosine is None and equal_decisions is None:
        return None
    for name, share in (("worst_cosine", worst_cosine), ("equal_decisions", equal_decisions)):
        if share is not None and not 0 <= share <= 1:
            raise BothwaysError(f"{name} must be between 0 and 1, such as 0.99, not {share}")
    return Bound(
        WORST_COSINE if worst_cosine is None else worst_cosine,
        EQUAL_DECISIONS if equal_decisions is None else equal_decisions,
    )


def judged(check: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The outputs that a model is used for: what it was fine-tuned to decide, or its vectors."""
    return {kind: check[kind] for kind in TASK_HEADS if "equal" in check.get(kind, ())} or {VECTOR: check[VECTOR]}


def said(check: dict[str, Any]) -> str:
    """How like float32 what an engine gives is, in words."""
    parts = [f"as like as {check[VECTOR]['worst_cosine']:.5f} in its worst vector's cosine"]
    equal = {kind: found["equal"] for kind, found in check.items() if isinstance(found, dict) and "equal" in found}
    return ", ".join(parts + [f"{share:.2%} equal in {kind}" for kind, share in equal.items()])


def note(
    lower: dict[str, Any], precision: str, found: Mapping[str, Any], bound: Bound, *, chosen: bool = False
) -> None:
    """Remembers what was found of a precision.

    Args:
        lower: `Known.lower`.
        precision: Which.
        found: The layers ``kept``, the ``check``, and the ``metric`` where one was asked.
        bound: What it was found for.
        chosen: Whether somebody chose it for this model, so that it holds where nothing else is asked for.
    """
    lower[precision] = {**found, "bound": asdict(bound), "chosen": chosen}


def usual_precision(lower: Mapping[str, Any], processor: str, bound: Bound | None) -> str | None:
    """What was found fastest on a kind of processor; None where nothing was, or where int8 must be looked for anew."""
    fastest: str | None = lower.get(FASTEST, {}).get(processor)
    return None if fastest == "int8" and remembered(lower, fastest, bound) is None else fastest


def remembered(lower: Mapping[str, Any], precision: str, bound: Bound | None) -> dict[str, Any] | None:
    """What is known of a precision, if it was found for this bound, or for a looser one and holds this one too.

    Args:
        lower: `Known.lower`.
        precision: Which.
        bound: What is asked; None: what was chosen for the model, else the usual one.
    """
    entry: dict[str, Any] | None = lower.get(precision)
    if entry is None or (bound is None and entry.get("chosen")):
        return entry
    if "metric" in entry:  # found for something else
        return None
    asked, found_for = bound or Bound(), Bound(**entry.get("bound", {}))
    looser = asked.worst_cosine < found_for.worst_cosine or asked.equal_decisions < found_for.equal_decisions
    needless = looser and entry.get("kept")  # layers that need not be kept
    return None if needless or not asked.holds(entry["check"]) else entry
