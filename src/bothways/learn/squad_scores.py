"""How well questions were answered: exact match and F1 by the rules of SQuAD's official evaluation, 1.1 and 2.0.

Rajpurkar et al. 2016 (section 6.1) and 2018 (section 4). Shares are from 0 to 1 here, in the official output from 0 to
100. The two versions differ only in what they make of answers of which normalising leaves nothing.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bothways.errors import BothwaysError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_FAR = 1e9
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(text: str) -> str:
    """An answer without capitals, ASCII punctuation, English articles and superfluous white space."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(guess: str, right: str) -> float:
    """1 where both are the same once normalised, else 0."""
    return float(normalized(guess) == normalized(right))


def word_f1(guess: str, right: str, *, empty_counts: bool) -> float:
    """The harmonic mean of precision and recall of the words of a guess, as bags.

    Args:
        guess: What was answered.
        right: What is right.
        empty_counts: Whether two answers without a word are the same, as in version 2.0; in 1.1 they share no word.
    """
    guessed, wanted = normalized(guess).split(), normalized(right).split()
    if empty_counts and not (guessed and wanted):
        return float(guessed == wanted)
    shared = sum((Counter(guessed) & Counter(wanted)).values())
    return 2 * shared / (len(guessed) + len(wanted)) if shared else 0.0


class Answered(NamedTuple):
    """How well Q questions were answered.

    Attributes:
        exact: ``(Q,)`` 0 or 1.
        f1: ``(Q,)`` from 0 to 1.
        answerable: ``(Q,)`` which questions have an answer.
    """

    exact: np.ndarray
    f1: np.ndarray
    answerable: np.ndarray


def score_answers(guesses: Sequence[str], right: Sequence[Sequence[str]], *, version: int) -> Answered:
    """Scores each question by the right answer that suits best.

    Args:
        guesses: What was answered, Q texts; empty for "no answer".
        right: For each question all right answers; none where there is no answer.
        version: 1 for SQuAD 1.1, 2 for SQuAD 2.0.
    """
    exact, f1 = np.zeros(len(guesses)), np.zeros(len(guesses))
    for place, (guess, wanted) in enumerate(zip(guesses, right, strict=True)):
        told = [text for text in wanted if normalized(text)] if version == 2 else list(wanted)
        told = told or [""]
        exact[place] = max(exact_match(guess, text) for text in told)
        f1[place] = max(word_f1(guess, text, empty_counts=version == 2) for text in told)
    return Answered(exact, f1, np.array([bool(wanted) for wanted in right], dtype=bool))


def answer_scores(found: Answered, places: np.ndarray | None = None) -> dict[str, float]:
    """The means, ``f1`` and ``exact_match``; where questions without an answer are among them also how those fared.

    Args:
        found: Of Q questions.
        places: Which of them, with repetition; None for all.

    Returns:
        Beside the two ``has_answer_f1``, ``has_answer_exact_match`` and ``no_answer_accuracy``, where there are
        questions of both kinds, or only such without an answer. A mean over no question is NaN.

    Raises:
        BothwaysError: There is nothing to score.
    """
    if not len(found.f1):
        raise BothwaysError("there is nothing to score: the data hold no question")
    exact, f1, has = found if places is None else (part[places] for part in found)
    scores = {"f1": float(f1.mean()), "exact_match": float(exact.mean())}
    if not found.answerable.all():
        scores["has_answer_f1"] = _mean(f1[has])
        scores["has_answer_exact_match"] = _mean(exact[has])
        scores["no_answer_accuracy"] = _mean(exact[~has])
    return scores


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


class Threshold(NamedTuple):
    """Where "no answer" is said, and the mean score that it gives."""

    value: float
    score: float


def best_threshold(credit: np.ndarray, answerable: np.ndarray, doubt: np.ndarray) -> Threshold:
    """The threshold of doubt above which "no answer" is said, such that the mean score is highest.

    As the official script of 2.0 does it; but questions of equal doubt, which no threshold parts, are kept together,
    and the threshold lies in the middle between two doubts rather than on one.

    Args:
        credit: ``(Q,)`` what each answer scores if it is given.
        answerable: ``(Q,)`` which questions have an answer; the others score 1 if "no answer" is said.
        doubt: ``(Q,)`` how far "no answer" scores above the answer.

    Returns:
        Of equally good thresholds the highest, at which most is answered.
    """
    order = np.argsort(doubt, kind="stable")
    gains = np.where(answerable, credit, credit - 1.0)[order]  # of answering rather than saying "no answer"
    totals = float((~answerable).sum()) + np.concatenate(([0.0], np.cumsum(gains)))  # once the first n are answered
    ranked = doubt[order]
    parted = np.concatenate(([True], ranked[1:] > ranked[:-1], [True]))
    edges = np.concatenate(([ranked[0] - 1.0], (ranked[1:] + ranked[:-1]) / 2, [ranked[-1] + 1.0]))
    edges = np.clip(edges, -_FAR, _FAR)  # where nothing at all was found, doubt is infinite
    totals = np.where(parted, totals, -np.inf)
    best = len(totals) - 1 - int(np.argmax(np.round(totals, 9)[::-1]))
    return Threshold(float(edges[best]), float(totals[best] / len(credit)))
