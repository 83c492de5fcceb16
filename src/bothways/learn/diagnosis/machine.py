"""Does the machine do what it should: numbers that hold, data in time?"""

from __future__ import annotations

import math

from bothways.learn.diagnosis.course import Course
from bothways.learn.diagnosis.finding import LOG, SETTINGS, Evidence, Finding

PRECISION, WAITING = "precision trouble", "waiting for data"
_MOST_WAITING, _WORTH_TELLING = 0.2, 60.0


def precision_trouble(course: Course) -> Finding | None:
    """A run in bf16 that broke off with a number that is none, at a rate that suits its width.

    The rate may be up to twice what suits; above, the rate is the likelier cause.
    """
    if not course.failure or course.settings.get("precision") != "bf16" or course.rate > 2 * course.suited_rate:
        return None
    what = f"The run broke off after step {course.step:,}, because numbers overflowed in bf16: {course.failure}."
    evidence = (
        Evidence("highest learning rate", course.rate, LOG, ".2g"),
        Evidence("rate that suits the encoder's width", course.suited_rate, SETTINGS, ".2g"),
        Evidence("loss of masked tokens before", course.level, LOG),
    )
    known = tuple(one for one in evidence if not math.isnan(one.value))
    return Finding(PRECISION, what, known, "Train again with --precision float32.", 1.0)


def waiting_for_data(course: Course) -> Finding | None:
    """Time is lost on waiting for batches.

    More than a fifth of it in the second half of the lines, and more than a minute in all: tiny encoders are quicker
    than any data, and nobody minds.
    """
    share = course.log.mean("waiting", 0.5, 1.0)
    if not share > _MOST_WAITING or not share * course.log["seconds"][-1] > _WORTH_TELLING:
        return None
    what = f"The run is slower than it has to be, because it waits for data {share:.0%} of the time."
    speed = course.log.mean("tokens_per_second", 0.5, 1.0)
    evidence = (
        Evidence("share of the time spent on waiting", share, LOG, ".0%"),
        Evidence("tokens a second", speed, LOG, ",.0f"),
        Evidence("tokens a second without waiting", speed / (1 - share) if share < 1 else math.nan, LOG, ",.0f"),
    )
    known = tuple(one for one in evidence if not math.isnan(one.value))
    remedy = "Put the prepared corpus on a local disk, and leave a processor to the data: --threads, one fewer."
    return Finding(WAITING, what, known, remedy, 0.3)
