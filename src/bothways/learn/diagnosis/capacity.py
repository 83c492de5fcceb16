"""Is the encoder too small for its vocabulary?"""

from __future__ import annotations

import math

from bothways.learn.diagnosis.course import MLM, Course
from bothways.learn.diagnosis.duration import FEW, PLATEAU
from bothways.learn.diagnosis.finding import CORPUS, LOG, SETTINGS, Evidence, Finding
from bothways.model.counts import parameter_count

SMALL = "model too small"
_LOSS = f"loss.{MLM}"
_LEVEL, _LEAST, _SEEN = 0.05, 0.05, 200
_ENOUGH = 0.45


def model_too_small(course: Course) -> Finding | None:
    """Frequent tokens are learnt, rare ones are not, and more steps do not help.

    A score for V tokens that is computed from D numbers cannot tell all of them apart (Yang et al. 2018, "Breaking the
    Softmax Bottleneck"). Told at the end of a run that

    - has at least 100 tokens of the vocabulary for each number of the width, and has read 200 tokens for each of them,
      so that neither text nor steps are wanting;
    - stands between 5 and 45 % below the loss of guessing by frequencies, and whose second half took away less than 5 %
      of its loss (of held-out text, where there are eight evaluations or more);
    - does as well on held-out text as on that it is trained on (else it is overfitting).

    Where the log says how rare tokens do, they have to do less than half as well as frequent ones.
    """
    config = course.config
    if config is None or not course.over or _LOSS not in course.log or len(course.log) < 10:
        return None
    vocabulary = course.facts.get("vocabulary") or config.embeddings.vocab_size
    narrow = min(config.width, config.embeddings.width)
    source, half, level = course.second_half(_LOSS)
    brought = (half - level) / level
    if vocabulary < 100 * narrow or not _LEAST < course.gained < _ENOUGH or not brought < _LEVEL:
        return None
    seen = course.log.within("tokens", 0.9, 1.0).max(initial=0.0) / vocabulary
    if seen < _SEEN:
        return None
    held = course.held_out.mean(_LOSS, 0.99, 1.0)
    if held - course.level > 0.1 * course.level:
        return None
    frequent, rare = _by_frequency(course)
    if rare > frequent / 2:
        return None
    tables = config.embeddings.vocab_size * config.embeddings.width / parameter_count(config)
    what = (
        f"Masked accuracy stands at {course.accuracy:.0%}, because the encoder is too small for its vocabulary: "
        f"{narrow} numbers have to tell {vocabulary:,.0f} tokens apart, and the loss no longer falls."
    )
    evidence = [
        Evidence("tokens in the vocabulary", vocabulary, CORPUS, ",.0f"),
        Evidence("width", narrow, SETTINGS, ",.0f"),
        Evidence("tokens read for each of them", seen, LOG, ",.0f"),
        Evidence("share of the parameters that are token tables", tables, SETTINGS, ".0%"),
        Evidence("share of the loss that the second half took away", brought, source, ".1%"),
        Evidence("loss of masked tokens", course.level, LOG),
        Evidence("the same on held-out text", held, LOG),
        Evidence("accuracy of the most frequent tokens", frequent, LOG),
        Evidence("accuracy of the rarest tokens", rare, LOG),
    ]
    known = tuple(one for one in evidence if not math.isnan(one.value))
    remedy = f"Train a wider encoder, such as --size small, or a smaller vocabulary, --vocab-size {50 * narrow}."
    return Finding(SMALL, what, known, remedy, 0.75, (PLATEAU, FEW))


def _by_frequency(course: Course) -> tuple[float, float]:
    """Accuracy of the most frequent and of the rarest tokens that were guessed at least 100 times; NaN without."""
    groups = [group for group in course.insight.get("frequency") or [] if group.get("count", 0) >= 100]
    if len(groups) < 2:
        return math.nan, math.nan
    ordered = sorted(groups, key=lambda group: float(group["from"]))
    rare, frequent = (float(group["right"]) / float(group["count"]) for group in (ordered[0], ordered[-1]))
    return frequent, rare
