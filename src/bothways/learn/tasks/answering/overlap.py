"""A baseline without learning: the words that stand nearest to those of the question.

The sliding window of Richardson et al. 2013 (MCTest), which SQuAD's authors compared with, over stretches of a fixed
number of words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from bothways.text.answer_places import Place

_AROUND = (2, 5, 10)  # words looked at on both sides: near ones count several times
_WORD = re.compile(r"\w+")


def answer_words(answers: Iterable[str]) -> int:
    """How many words half of the answers have at most; 1 where there are none."""
    counts = [len(_WORD.findall(answer)) for answer in answers]
    return max(1, int(np.median(counts))) if counts else 1


def nearest_words(question: str, context: str, words: int) -> Place:
    """The stretch of so many words around which most of the question's words stand, rare ones counting more.

    Args:
        question: The question.
        context: A text of N words; the work grows with N alone.
        words: How long an answer is.

    Returns:
        ``context[start:end]``; of equals the first.
    """
    found = list(_WORD.finditer(context))
    if len(found) <= words:
        return (found[0].start(), found[-1].end()) if found else (0, 0)
    texts = [match.group().lower() for match in found]
    often, asked = Counter(texts), {match.group().lower() for match in _WORD.finditer(question)}
    weights = [np.log1p(1 / often[text]) if text in asked else 0.0 for text in texts]
    summed = np.concatenate(([0.0], np.cumsum(weights)))
    first = np.arange(len(texts) - words + 1)
    inside = summed[first + words] - summed[first]
    score = -2 * len(_AROUND) * inside  # an answer seldom repeats the question
    for width in _AROUND:
        score += summed[np.minimum(first + words + width, len(texts))] - summed[np.maximum(first - width, 0)]
    best = int(np.argmax(np.round(score, 9)))
    return found[best].start(), found[best + words - 1].end()
