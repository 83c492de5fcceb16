"""Is the learning rate too high, or too low?"""

from __future__ import annotations

import math

import numpy as np

from bothways.learn.diagnosis.course import MLM, Course
from bothways.learn.diagnosis.finding import LOG, SETTINGS, Evidence, Finding

NAME_HIGH, NAME_LOW = "rate too high", "rate too low"
_LOSS = f"loss.{MLM}"
_HIGH, _FAR_TOO_HIGH = 2.0, 6.0
"""Times the rate that suits; tiny encoders bear five times as much."""


def rate_too_high(course: Course) -> Finding | None:
    """A loss that is lost again, that is no number any more, or that never comes below mere word frequencies.

    Signs, each of them enough:

    - The run broke off because a loss or gradient was not finite (unless `precision_trouble` explains it).
    - The loss of masked tokens stands above its own lowest level by a tenth of all that it had fallen, by 0.1 nats and
      by six standard errors, while masking did not grow heavier. Spikes that are made good do not count.
    - Where the rate is more than twice what suits the width: after a third of the run the loss stands above that of
      guessing by frequencies by 3 % and does not fall.
    - Where it is more than six times what suits: the loss came near that of guessing by frequencies within half of the
      run, and not 5 % below it in the rest. At usual rates such a plateau has other causes.
    """
    if course.failure:
        return _broken_off(course)
    if _LOSS not in course.log or len(course.log) < 5:
        return None
    lowest, risen = _risen(course)
    if risen:
        what = (
            f"Masked accuracy stands at {course.accuracy:.0%}, because the learning rate is too high: the loss had "
            f"come down to {lowest:.2f} and rose again to {course.level:.2f}."
        )
        return _finding(course, what, (Evidence("lowest loss of masked tokens", lowest, LOG),), 0.95)
    if course.progress < 1 / 3 or not course.rate > _HIGH * course.suited_rate:
        return None
    near = course.log.mean(_LOSS, 0.4, 0.6) < 1.1 * course.unigram_loss
    stuck = near and course.gained < 0.05 and course.rate > _FAR_TOO_HIGH * course.suited_rate
    if not (stuck or (course.gained < -0.03 and _flat(course))):
        return None
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because steps at this learning rate are so large that the "
        f"model learns nothing but how frequent words are: its loss stays at {course.level:.2f}, and guessing by "
        f"frequencies alone gives {course.unigram_loss:.2f}."
    )
    return _finding(course, what, (), 0.9)


def rate_too_low(course: Course) -> Finding | None:
    """A loss that falls in a straight line and is far from levelling when the run ends.

    The rate has to be below a quarter of what suits the width, half of the run over, and the loss less than 15 % below
    that of guessing by frequencies. Besides, it either stands above that loss, or it still falls at least half as fast
    in the second half of the run as in the first. Fast means: for the rate there was, so that a rate that decays by
    plan does not look like a loss that levels off.
    """
    suited = course.suited_rate
    if _LOSS not in course.log or len(course.log) < 5 or course.progress < 0.5 or not course.rate < suited / 4:
        return None
    gained = course.gained
    if gained > 0.15 or (math.isnan(gained) and course.settings.get("base")):
        return None
    straight = straightness(course)
    if not (gained < -0.03 or straight > 0.5):
        return None
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because the learning rate is too low: the loss is still "
        f"{course.level:.2f} and was far from levelling off when the rate went down."
    )
    evidence = (
        *_common(course),
        Evidence("fall in the second half beside the first, for the same rate", straight, LOG, ".2f"),
    )
    return Finding(NAME_LOW, what, evidence, _remedy(course, raised=True), 0.9, _FOLLOWS)


_FOLLOWS = ("on the plateau of word frequencies", "too few steps", "model too small", "learns nothing")


def straightness(course: Course) -> float:
    """How fast the loss falls in the second half beside the first, over the sum of the rates so far; NaN if it rose."""
    loss, rate = course.log[_LOSS], course.log["rate"]
    good = np.isfinite(loss) & np.isfinite(rate)
    travelled = np.cumsum(rate[good] * np.diff(course.log.steps[good], prepend=0))
    half = travelled < travelled[-1] / 2
    slopes = [
        float(np.polyfit(travelled[part], loss[good][part], 1)[0]) if part.sum() > 2 else math.nan
        for part in (half, ~half)
    ]
    return slopes[1] / slopes[0] if slopes[0] < 0 else math.nan


def _broken_off(course: Course) -> Finding | None:
    if course.settings.get("precision") == "bf16" and course.rate <= 2 * course.suited_rate:
        return None  # see precision_trouble
    what = f"The run broke off after step {course.step:,}, because the learning rate is too high: {course.failure}."
    return _finding(course, what, (), 1.0)


def _risen(course: Course) -> tuple[float, bool]:
    """The lowest level of the loss, and whether it was left again for good."""
    loss = course.log[_LOSS]
    width = max(3, len(loss) // 20)
    levels = np.convolve(loss, np.full(width, 1 / width), mode="valid")
    lowest = float(np.nanmin(levels))
    if (course.settings.get("mask_rate_end") or 0) > (course.settings.get("mask_rate") or 0.15):
        return lowest, False
    error = course.log.noise(_LOSS) / math.sqrt(width)
    rise = course.level - lowest
    return lowest, rise > max(0.1, 6 * error, 0.1 * (float(levels[0]) - lowest))


def _flat(course: Course) -> bool:
    """Whether the loss fell by less than 3 % of itself in the last half of the lines."""
    return course.log.mean(_LOSS, 0.4, 0.6) - course.level < 0.03 * course.level


def _finding(course: Course, what: str, more: tuple[Evidence, ...], weight: float) -> Finding:
    return Finding(NAME_HIGH, what, (*_common(course), *more), _remedy(course, raised=False), weight, _FOLLOWS)


def _common(course: Course) -> tuple[Evidence, ...]:
    found = [Evidence("highest learning rate", course.rate, LOG, ".2g")]
    if not math.isnan(course.suited_rate):
        found.append(Evidence("rate that suits the encoder's width", course.suited_rate, SETTINGS, ".2g"))
    if not math.isnan(course.level):
        found.append(Evidence("loss of masked tokens", course.level, LOG))
    if not math.isnan(course.unigram_loss):
        found.append(Evidence("loss of guessing by frequencies", course.unigram_loss, "the corpus"))
    begin, end = (course.log.mean("gradient_norm", *span) for span in ((0.0, 0.2), (0.8, 1.0)))
    if not math.isnan(begin + end):
        found += [
            Evidence("length of the gradient at first", begin, LOG, ".2f"),
            Evidence("and at last", end, LOG, ".2f"),
        ]
    return tuple(found)


def _remedy(course: Course, *, raised: bool) -> str:
    suited = course.suited_rate
    fits = not math.isnan(suited) and (course.rate < suited if raised else course.rate > 1.5 * suited)
    rate = suited if fits else course.rate * (4 if raised else 0.25)
    return f"Train again with --learning-rate {rate:.2g}."
