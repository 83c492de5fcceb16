"""What may be wrong with a pre-training run: likely causes, each with its evidence and what to do."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from bothways.learn.diagnosis.capacity import model_too_small
from bothways.learn.diagnosis.course import MLM, Course, read_course
from bothways.learn.diagnosis.data import duplicated_data, overfitting, vocabulary_mismatch
from bothways.learn.diagnosis.duration import plateau, too_few_steps
from bothways.learn.diagnosis.finding import Diagnosis, Evidence, Finding, Verdict
from bothways.learn.diagnosis.learning import generator_unsuited, learns_nothing
from bothways.learn.diagnosis.machine import precision_trouble, waiting_for_data
from bothways.learn.diagnosis.masking import masking_too_heavy, masking_too_light
from bothways.learn.diagnosis.rates import rate_too_high, rate_too_low

__all__ = ["CHECKS", "Diagnosis", "Evidence", "Finding", "diagnose", "judge"]

CHECKS: tuple[Callable[[Course], Finding | None], ...] = (
    rate_too_high,
    rate_too_low,
    precision_trouble,
    plateau,
    masking_too_heavy,
    masking_too_light,
    model_too_small,
    too_few_steps,
    overfitting,
    duplicated_data,
    vocabulary_mismatch,
    learns_nothing,
    generator_unsuited,
    waiting_for_data,
)
"""What is looked for. Each says in its docstring from where on it speaks, and stays silent where it does not know."""
_FEWEST_LINES, _FEWEST_STEPS, _EARLY = 5, 30, 0.3


def diagnose(run: str | Path) -> Diagnosis:
    """Says how a pre-training run is doing, and what the likely causes are if it does badly.

    Args:
        run: The folder of a run of `bothways.pretrain`: finished, interrupted, or one that goes on.

    Returns:
        The verdict, the findings that it rests on with the heaviest first, and what could not be looked at.

    Raises:
        BothwaysError: There is no run, or it is one of another kind.
    """
    return judge(read_course(run))


def judge(course: Course) -> Diagnosis:
    """The same of a course that has been read."""
    found = [finding for check in CHECKS if (finding := check(course)) is not None]
    explained = {name for finding in found for name in finding.explains}
    findings = tuple(sorted((one for one in found if one.name not in explained), key=lambda one: -one.weight))
    verdict, why = _verdict(course, findings)
    return Diagnosis(str(course.folder), verdict, why, findings, _figures(course), course.missing)


def _verdict(course: Course, findings: tuple[Finding, ...]) -> tuple[Verdict, str]:
    if findings:
        others = f", and {len(findings) - 1} more" if len(findings) > 1 else ""
        return "sick", f"{findings[0].name}{others}"
    if len(course.log) < _FEWEST_LINES or course.step < _FEWEST_STEPS:
        return "too early to say", f"only {course.step:,} steps are logged"
    if course.progress < _EARLY:
        of = f" of {course.steps:,}" if course.steps else ""
        return "too early to say", f"only {course.step:,}{of} steps are taken, and nothing speaks against it so far"
    return "healthy", "nothing speaks against it" + ("" if course.over else f" so far, after {course.step:,} steps")


def _figures(course: Course) -> dict[str, float]:
    """Where the run stands."""
    loss = f"loss.{MLM}"
    figures: dict[str, float] = {"steps": course.step}
    if loss in course.log:
        figures |= {
            "loss of masked tokens": course.level,
            "masked accuracy": course.accuracy,
            "held-out loss of masked tokens": course.held_out.mean(loss, 0.99, 1.0),
            "loss of guessing by frequencies": course.unigram_loss,
            "accuracy of the most frequent token": course.facts.get("unigram_accuracy", math.nan),
        }
    figures["highest learning rate"] = course.rate
    figures |= {
        f"{name.replace('.', ' of ')}": course.log.mean(name, 0.9, 1.0)
        for name in course.log.names
        if name.startswith(("loss.", "accuracy.")) and not name.endswith(f".{MLM}")
    }
    return {name: value for name, value in figures.items() if not math.isnan(value)}
