"""Does the corpus suit: is there enough of it, does it repeat itself, can the vocabulary spell it?"""

from __future__ import annotations

import math

import numpy as np

from bothways.learn.diagnosis.course import MLM, Course
from bothways.learn.diagnosis.finding import CORPUS, HELD_OUT, LOG, Evidence, Finding

OVERFIT, REPEATED, VOCABULARY = "overfitting", "duplicated data", "vocabulary mismatch"
_LOSS = f"loss.{MLM}"
_LEAST_LOOKED_AT = 50


def overfitting(course: Course) -> Finding | None:
    """The text it trains on is learnt by heart.

    Told if, over at least three evaluations, the loss of masked tokens on held-out text has risen from its lowest by
    3 % and by 0.05 nats, and that on the text it trains on has fallen meanwhile.
    """
    if _LOSS not in course.held_out or _LOSS not in course.log or len(course.held_out) < 3:
        return None
    held = course.held_out[_LOSS]
    best, last = int(np.nanargmin(held)), float(held[-1])
    lowest = float(held[best])
    if not last - lowest > max(0.05, 0.03 * lowest):
        return None
    at = float(course.held_out.steps[best]) / max(course.step, 1)
    then = course.log.mean(_LOSS, max(0.0, at - 0.05), min(1.0, at + 0.05))
    if not course.level < then:
        return None
    epochs = float(np.nanmax(course.log.within("epoch", 0.0, 1.0), initial=0.0))
    what = (
        f"The loss on held-out text came down to {lowest:.2f} and rose again to {last:.2f}, because the corpus is too "
        f"small for so many steps: the model learns it by heart."
    )
    evidence = (
        Evidence("lowest held-out loss of masked tokens", lowest, HELD_OUT),
        Evidence("at step", float(course.held_out.steps[best]), HELD_OUT, ",.0f"),
        Evidence("held-out loss now", last, HELD_OUT),
        Evidence("loss on the text it trains on, then", then, LOG),
        Evidence("and now", course.level, LOG),
        Evidence("passes over the corpus", epochs, LOG, ".1f"),
        *([Evidence("tokens in the corpus", course.facts["tokens"], CORPUS, ",.0f")] if course.facts else []),
    )
    stop = int(course.held_out.steps[best])
    masks = "leave --static-masks out, " if course.settings.get("static_masks") else ""
    remedy = f"Give more text, or {masks}stop sooner, --steps {stop}, or train with --dropout 0.1 or a smaller --size."
    return Finding(OVERFIT, what, evidence, remedy, 0.8)


def duplicated_data(course: Course) -> Finding | None:
    """The same text stands in the corpus more than once.

    Told from a quarter of the text on. Repeated text is learnt by heart, and of what is held out as much stands in the
    training text too, so held-out losses are better than they should be.
    """
    share = course.facts.get("duplicate_share", 0.0)
    if share < 0.25:
        return None
    what = (
        f"{share:.0%} of the text stands in the corpus more than once, because documents were taken in twice: it is "
        f"learnt by heart, and held-out losses are better than they should be."
    )
    evidence = (
        Evidence("share of the text that comes more than once", share, CORPUS, ".0%"),
        Evidence("documents", course.facts.get("documents", math.nan), CORPUS, ",.0f"),
        Evidence("held-out loss of masked tokens", course.held_out.mean(_LOSS, 0.99, 1.0), HELD_OUT),
    )
    known = tuple(one for one in evidence if not math.isnan(one.value))
    remedy = "Take repeated documents out of the source and prepare the corpus anew: bothways corpus prepare."
    return Finding(REPEATED, what, known, remedy, 0.75 + 0.2 * share)


def vocabulary_mismatch(course: Course) -> Finding | None:
    """The vocabulary was made for other text.

    Told if one of these holds; a vocabulary for the text needs 1.1 to 1.4 tokens a word.

    - 5 % of the tokens stand for what it cannot spell.
    - Words are cut into two and a half tokens on average; or, where no published encoder is continued, into 1.6 though
      less than a quarter of the vocabulary occurs (Chinese characters and English text).
    - Less than a quarter of the vocabulary occurs, where at least 50 tokens of text for each of it were looked at.
    """
    facts = course.facts
    unknown, cut = facts.get("unknown_share", 0.0), facts.get("tokens_per_word", 1.0)
    size, used = facts.get("vocabulary", 0.0), facts.get("used", 1.0)
    looked_at = facts.get("looked_at", facts.get("tokens", 0.0)) / max(size, 1.0)
    foreign = cut >= 1.6 and used <= 0.25 and looked_at >= 3 and not course.settings.get("base")
    if unknown >= 0.05:
        seen = f"{unknown:.0%} of the text cannot be spelled"
        weight = 0.92
    elif cut >= 2.5 or foreign:
        seen = f"words are cut into {cut:.1f} tokens"
        weight = 0.88
    elif used <= 0.25 and looked_at >= _LEAST_LOOKED_AT:
        seen = f"only {used:.0%} of it occurs in the text"
        weight = 0.65
    else:
        return None
    evidence = (
        Evidence("share of unknown tokens", unknown, CORPUS, ".1%"),
        Evidence("tokens a word", cut, CORPUS, ".2f"),
        Evidence("share of the vocabulary that occurs", used, CORPUS, ".0%"),
        Evidence("tokens in the vocabulary", size, CORPUS, ",.0f"),
    )
    remedy = (
        "Train a vocabulary on this text: leave --tokenizer out, or bothways tokenizer train; where an encoder is "
        "continued, take a --base that knows the language."
    )
    if weight < 0.7:
        remedy = f"Train a smaller vocabulary on this text: --vocab-size {_round(1.2 * used * size)}."
    return Finding(VOCABULARY, f"The vocabulary does not fit the corpus, because {seen}.", evidence, remedy, weight)


def _round(size: float) -> int:
    """A size of a vocabulary that one would type."""
    step = 1000 if size > 4000 else 100
    return max(step, round(size / step) * step)
