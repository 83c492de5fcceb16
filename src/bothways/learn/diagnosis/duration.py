"""Did the run take enough steps?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.diagnosis.course import MLM, Course, Series
from bothways.learn.diagnosis.finding import CORPUS, HELD_OUT, LOG, Evidence, Finding
from bothways.learn.record import LOG as LOG_NAME
from bothways.learn.record import read_record

PLATEAU, FEW = "on the plateau of word frequencies", "too few steps"
ON_PLATEAU = 0.1
"""Share of the loss of guessing by frequencies; who has gained less than that by reading the context is on it."""
USUAL_STEPS = {
    "neighbours": {"muon": 550, "adamw": 700},
    "random": {"muon": 800, "adamw": 1700},
}
"""Steps after which BERT-mini left the plateau, by how attention began (benchmarks/README.md, "How attention begins",
"Muon against AdamW")."""
_LOSS, _ACCURACY = f"loss.{MLM}", f"accuracy.{MLM}"
_MOST_NEIGHBOURS = 50


def plateau(course: Course) -> Finding | None:
    """The model still guesses by word frequencies alone.

    Every encoder learns first how frequent words are, stays at that loss for hundreds of steps, and then begins to read
    the context. The run is on that plateau if half of it is over and the loss of masked tokens is less than 10 % below
    that of guessing by frequencies. How many steps it takes is estimated from runs in the same folder that have left
    the plateau, else from our own measurements.
    """
    if _LOSS not in course.log or course.progress < 0.5 or not course.gained < ON_PLATEAU:
        return None
    known = (
        "has not even learned how frequent words are"
        if course.gained < -0.03
        else "still guesses by word frequencies alone"
    )
    frequent = course.facts.get("unigram_accuracy", math.nan)
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because the model {known}: its loss is {course.level:.2f}, "
        f"and guessing by frequencies gives {course.unigram_loss:.2f} and {frequent:.0%}."
    )
    needed, source = _usual_steps(course)
    evidence = (
        Evidence("loss of masked tokens", course.level, LOG),
        Evidence("loss of guessing by frequencies", course.unigram_loss, CORPUS),
        Evidence("masked accuracy", course.accuracy, LOG),
        Evidence("accuracy of the most frequent token", frequent, CORPUS),
        Evidence("steps taken", course.step, LOG, ",.0f"),
        Evidence("steps in which others left the plateau", needed, source, ",.0f"),
    )
    if course.step < 2 * needed:
        remedy = f"Take more steps: --steps {_round(4 * needed)} or more."
    else:
        start = "leave --attention-start random out, " if course.settings.get("attention_start") == "random" else ""
        remedy = f"More steps alone have not helped: {start}try --optimizer muon, --mask-rate 0.3 or --max-length 32."
    return Finding(PLATEAU, what, evidence, remedy, 0.7, (FEW, "learns nothing"))


def too_few_steps(course: Course) -> Finding | None:
    """The loss still falls when the run ends.

    The last quarter of the steps, in which the rate goes to zero, brought more than a fifth of all that the context has
    gained (of the whole fall, where word frequencies are not known). A run whose loss falls with the logarithm of its
    steps gains a tenth there. It is measured on held-out text where there are eight evaluations or more, for they are
    always made of the same guesses; else on the lines of training, and has to be four standard errors.
    """
    if not course.over or course.failure or len(course.log) < 10:
        return None
    loss = _LOSS if _LOSS in course.log else "loss"
    source, before, level, error = _last_quarter(course, loss)
    known = loss == _LOSS and course.unigram_loss > level
    begun = course.unigram_loss if known else float(course.log.within(loss, 0.0, 1.0)[0])
    share = (before - level) / (begun - level) if begun > level else 0.0
    if not share > 0.2 or not before - level > 4 * error:
        return None
    of = "all that the context has taught it" if known else "all that it has learned"
    seen = f"Masked accuracy stands at {course.accuracy:.0%}" if loss == _LOSS else f"The loss stands at {level:.2f}"
    what = f"{seen}, because the run ended too soon: its last quarter still brought {share:.0%} of {of}."
    evidence = (
        Evidence("loss after three quarters", before, source),
        Evidence("loss at the end", level, source),
        Evidence("share of all that was gained", share, source, ".0%"),
        Evidence("steps taken", course.step, LOG, ",.0f"),
    )
    return Finding(FEW, what, evidence, f"Take more steps: --steps {_round(3 * course.step)} or more.", 0.5)


def _last_quarter(course: Course, loss: str) -> tuple[str, float, float, float]:
    """Where it is from, the loss after three quarters and at the end, and how uncertain their difference is."""
    if course.measured_often(loss):
        held, values = course.held_out, course.held_out[loss]
        return HELD_OUT, float(np.interp(0.75 * course.step, held.steps, values)), float(values[-1]), 0.0
    error = math.sqrt(2) * course.standard_error(loss, 0.1)
    return LOG, course.log.mean(loss, 0.7, 0.8), course.log.mean(loss, 0.9, 1.0), error


def _usual_steps(course: Course) -> tuple[float, str]:
    """In how many steps comparable runs left the plateau, and which runs those are."""
    others = [steps for path in _neighbours(course.folder) if (steps := _left_after(path, course)) is not None]
    if others:
        return float(np.median(others)), "a run beside this one" if len(
            others
        ) == 1 else f"{len(others)} runs beside this one"
    continued = course.settings.get("base")
    optimizer = course.settings.get("optimizer") or ("adamw" if continued else "muon")
    start = course.settings.get("attention_start") or ("random" if continued else "neighbours")
    return USUAL_STEPS[start][optimizer], f"BERT-mini with {optimizer}, measured"


def _neighbours(folder: Path) -> Iterator[Path]:
    """Other runs in the same folder."""
    here = folder.absolute()
    found = sorted(path.parent for path in here.parent.glob(f"*/{LOG_NAME}") if path.parent != here)
    yield from found[:_MOST_NEIGHBOURS]


def _left_after(folder: Path, course: Course) -> int | None:
    """The step at which another run on the same data left the plateau; None if it did not, or is of another kind."""
    try:
        record = read_record(folder)
    except BothwaysError:
        return None
    data = record.run.get("data", {}).get("corpus")
    if data is None or data != course.fingerprint:
        return None
    log = Series(record.of("step"))
    width = max(3, len(log) // 20)
    if _LOSS not in log or len(log) < width:
        return None
    levels = np.convolve(log[_LOSS], np.full(width, 1 / width), mode="valid")
    below = np.flatnonzero(levels < (1 - ON_PLATEAU) * course.unigram_loss)
    return int(log.steps[below[0] + width - 1]) if len(below) else None


def _round(steps: float) -> int:
    """A number of steps that one would type: two digits and zeros."""
    size = 10 ** max(0, int(math.log10(max(steps, 1))) - 1)
    return math.ceil(steps / size) * size
