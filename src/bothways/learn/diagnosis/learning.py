"""Is there an objective that learns nothing while others do?"""

from __future__ import annotations

import math

from bothways.learn.diagnosis.course import MLM, Course
from bothways.learn.diagnosis.finding import LOG, SETTINGS, Evidence, Finding

NOTHING, GENERATOR = "learns nothing", "nothing to find"
_OF_TWO = {"nsp": "whether one text follows another", "sop": "which of two texts comes first"}
_GAINED, _RIGHT = 0.1, 0.15


def learns_nothing(course: Course) -> Finding | None:
    """One objective stays where guessing would be, while masked tokens are learnt.

    Masked tokens are learnt once the context has gained 10 % of the loss of guessing by frequencies (or, where that is
    not known, the accuracy 15 points). Half of the run has to be over.

    - ``nsp``, ``sop``: over the last three tenths of the lines the accuracy is below 53 %, the loss within 2 % of
      ln 2, and there were enough pairs for a standard error below 2 %.
    - ``rtd``: the loss is within 3 % of that of saying the same of every token. Who errs with a share e and tells no
      token from another has the loss ``-e ln e - (1 - e) ln(1 - e)``; who does tell has less.
    """
    if course.progress < 0.5 or not _others_learn(course):
        return None
    for name, asked in _OF_TWO.items():
        accuracy, loss, pairs = (
            course.log.mean(f"accuracy.{name}", 0.7, 1.0),
            course.log.mean(f"loss.{name}", 0.7, 1.0),
            _pairs(course),
        )
        if accuracy < 0.53 and loss > 0.98 * math.log(2) and pairs > 1000:
            evidence = (
                Evidence(f"accuracy of {name}", accuracy, LOG),
                Evidence("accuracy of guessing", 0.5, SETTINGS),
                Evidence(f"loss of {name}", loss, LOG),
                Evidence("pairs it was asked about", pairs, LOG, ",.0f"),
                Evidence("accuracy of masked tokens", course.accuracy, LOG),
            )
            what = (
                f"{name} stands at {accuracy:.0%}, as guessing would, because the model has found nothing that tells "
                f"{asked}, while masked tokens are learnt: neighbouring texts of this corpus may have little in common."
            )
            remedy = f"Leave {name} out, --objective {_without(course, name)}, or see that documents are whole texts."
            return Finding(NOTHING, what, evidence, remedy, 0.55)
    return _replaced(course)


def generator_unsuited(course: Course) -> Finding | None:
    """The generator of replaced tokens leaves nothing to find.

    Told in the second half of a run if fewer than 2 % of the tokens are replaced, so well does the generator guess.
    """
    if "loss.rtd" not in course.log or course.progress < 0.5:
        return None
    rate = course.settings.get("mask_rate") or 0.15
    replaced = rate * (1 - course.accuracy)
    if not replaced < 0.02:
        return None
    what = (
        f"Only {replaced:.1%} of the tokens are replaced, because the generator guesses {course.accuracy:.0%} of them "
        f"right: the discriminator has hardly anything to find."
    )
    evidence = (
        Evidence("accuracy of the generator", course.accuracy, LOG),
        Evidence("share of tokens that is masked for it", rate, SETTINGS, ".0%"),
        Evidence("share of tokens that is replaced, at most", replaced, LOG, ".1%"),
    )
    return Finding(GENERATOR, what, evidence, "Train again with a smaller --generator-size, or --mask-rate 0.25.", 0.6)


def _replaced(course: Course) -> Finding | None:
    if "accuracy.rtd" not in course.log:
        return None
    loss, error = course.log.mean("loss.rtd", 0.8, 1.0), 1 - course.log.mean("accuracy.rtd", 0.8, 1.0)
    if not 0 < error < 1:
        return None
    blind = -error * math.log(error) - (1 - error) * math.log(1 - error)
    if loss < 0.97 * blind:
        return None
    evidence = (
        Evidence("loss of rtd", loss, LOG, ".4f"),
        Evidence("loss of saying the same of every token", blind, LOG, ".4f"),
        Evidence("share of tokens that it gets wrong", error, LOG, ".1%"),
        Evidence("accuracy of the generator", course.accuracy, LOG),
    )
    what = (
        f"rtd gets {1 - error:.0%} of the tokens right, as saying 'original' of each would, because the discriminator "
        "tells no token from another, while the generator learns."
    )
    remedy = "Give the discriminator more weight or steps: --loss-weights rtd=50, --steps; or a lower --learning-rate."
    return Finding(NOTHING, what, evidence, remedy, 0.55)


def _others_learn(course: Course) -> bool:
    if not math.isnan(course.gained):
        return course.gained > _GAINED
    return course.accuracy - course.log.mean(f"accuracy.{MLM}", 0.0, 0.1) > _RIGHT


def _pairs(course: Course) -> float:
    """At least so many pairs were asked about in the last three tenths of the lines."""
    tokens = course.log.within("tokens", 0.7, 1.0)
    return float(tokens[-1] - tokens[0]) / float(course.settings.get("max_length") or 512) if len(tokens) else 0.0


def _without(course: Course, name: str) -> str:
    """The objective as one would type it, without one of its parts."""
    parts = str(course.settings.get("objective") or MLM).split("+")
    return "+".join(part for part in parts if part != name) or MLM
