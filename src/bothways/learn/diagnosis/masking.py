"""Is too much masked, or too little?"""

from __future__ import annotations

from bothways.learn.diagnosis.course import MLM, Course
from bothways.learn.diagnosis.duration import FEW, ON_PLATEAU, PLATEAU
from bothways.learn.diagnosis.finding import CORPUS, LOG, SETTINGS, Evidence, Finding

HEAVY, LIGHT = "masking too heavy", "masking too light"
_HIDDEN = 0.9
"""Of the chosen tokens that cannot be read: 80 % masked and 10 % replaced."""
_LOSS, _ACCURACY = f"loss.{MLM}", f"accuracy.{MLM}"


def masking_too_heavy(course: Course) -> Finding | None:
    """So much is hidden that what is left does not tell.

    Up to 40 %, encoders learn as well or better (Wettig et al. 2023, "Should You Mask 15% in Masked Language
    Modeling?"). Told if half of the run is over and either 60 % or more are masked and the context has gained less
    than 30 % of the loss of guessing by frequencies, or the rate rose to 40 % or more and the accuracy fell by a fifth
    of its best meanwhile.
    """
    begin = course.settings.get("mask_rate") or 0.15
    end = course.settings.get("mask_rate_end") or begin
    rate = begin + (end - begin) * course.progress
    if _LOSS not in course.log or course.progress < 0.5:
        return None
    best = max((course.log.mean(_ACCURACY, at / 10, (at + 1) / 10) for at in range(10)), default=0.0)
    hides = rate >= 0.6 and course.gained < 0.3
    grows = end > begin and rate >= 0.4 and course.accuracy < 0.8 * best and len(course.log) >= 10
    if not (hides or grows):
        return None
    seen = (1 - _HIDDEN * rate) ** 2
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because {rate:.0%} of the tokens are masked: both "
        f"neighbours can be read at only {seen:.0%} of the places to guess."
    )
    evidence = (
        Evidence("share of tokens that is masked", rate, SETTINGS, ".0%"),
        Evidence("places with both neighbours to be read", seen, SETTINGS, ".0%"),
        Evidence("masked accuracy", course.accuracy, LOG),
        Evidence("best tenth of the run", best, LOG),
        *([Evidence("loss of guessing by frequencies", course.unigram_loss, CORPUS)] if course.facts else []),
        Evidence("loss of masked tokens", course.level, LOG),
    )
    option = "--mask-rate-end 0.3 or less, or without it" if grows else "--mask-rate 0.15, at most 0.3 or 0.4"
    return Finding(HEAVY, what, evidence, f"Train again with {option}.", 0.85, (PLATEAU, FEW, "model too small"))


def masking_too_light(course: Course) -> Finding | None:
    """So little is to be guessed that a step teaches next to nothing.

    Told if at most 5 % are masked, a step asks for fewer than 100 guesses, and the context has gained less than 15 % of
    the loss of guessing by frequencies in at least half of the run.
    """
    rate, batch = course.settings.get("mask_rate") or 0.15, course.settings.get("batch_tokens")
    if _LOSS not in course.log or course.progress < 0.5 or not batch or rate > 0.05:
        return None
    guesses = rate * batch
    if guesses >= 100 or not course.gained < 1.5 * ON_PLATEAU:
        return None
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because only {rate:.1%} of the tokens are masked: a step "
        f"learns from {guesses:,.0f} guesses."
    )
    evidence = (
        Evidence("share of tokens that is masked", rate, SETTINGS, ".1%"),
        Evidence("guesses in a step", guesses, SETTINGS, ",.0f"),
        Evidence("loss of masked tokens", course.level, LOG),
        Evidence("loss of guessing by frequencies", course.unigram_loss, CORPUS),
    )
    return Finding(LIGHT, what, evidence, "Train again with --mask-rate 0.15, or 0.3.", 0.8, (PLATEAU, FEW))
