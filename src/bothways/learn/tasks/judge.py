"""Guesses beside what is right, for tasks over whole texts.

Shapes: N texts, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.learn.metrics import (
    classification_scores,
    confusion_counts,
    confusion_metrics,
    regression_scores,
    several_counts,
    several_metrics,
    several_scores,
)
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.learn.tasks.protocol import Examined, Judged, Rows


def judge_classes(
    data: LabelledTexts, truth: np.ndarray, probabilities: np.ndarray, labels: tuple[str, ...]
) -> Examined:
    """Guesses of one class each.

    Args:
        data: N texts.
        truth: ``(N,)`` the number of the right class.
        probabilities: ``(N, C)``.
        labels: The names of the C classes.
    """
    guessed = probabilities.argmax(1)
    texts = data.inputs()

    def judged(place: int) -> Judged:
        right, guess, shares = truth[place], guessed[place], probabilities[place]
        sure = float(shares[guess]), float(shares[right])
        return Judged(texts[place], labels[right], labels[guess], float(right == guess), *sure)

    def resampled(places: np.ndarray) -> dict[str, float]:
        return confusion_metrics(confusion_counts(truth[places], guessed[places], len(labels)))

    scores = classification_scores(truth, guessed, labels)
    return Examined(scores, Rows(len(data), judged), resampled, labels, truth, probabilities, guessed)


def judge_several(
    data: LabelledTexts, flags: np.ndarray, probabilities: np.ndarray, given: np.ndarray, labels: tuple[str, ...]
) -> Examined:
    """Guesses of several labels each.

    A text's credit is the F1 of its labels; its confidence, and its doubt, are those of the decision of which the model
    was the least sure. The decisions that `Examined` tells are all N times C, each between "absent" and "present".

    Args:
        data: N texts.
        flags: ``(N, C)`` 1 where a label is right.
        probabilities: ``(N, C)``.
        given: ``(N, C)`` booleans, which labels are given.
        labels: Their names.
    """
    right = flags > 0
    both, either = (right & given).sum(1), right.sum(1) + given.sum(1)
    credit = np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
    sure = np.where(given, probabilities, 1 - probabilities).min(1)
    doubt = np.where(right, probabilities, 1 - probabilities).min(1)

    def named(holds: np.ndarray) -> str:
        return ", ".join(label for label, one in zip(labels, holds, strict=True) if one)

    texts = data.inputs()

    def judged(n: int) -> Judged:
        return Judged(texts[n], named(right[n]), named(given[n]), float(credit[n]), float(sure[n]), float(doubt[n]))

    counts = several_counts(right, given)

    def resampled(places: np.ndarray) -> dict[str, float]:
        times = np.bincount(places, minlength=len(counts))
        return several_metrics(times @ counts, len(places))

    shares = probabilities.ravel()
    decisions = np.stack([1 - shares, shares], axis=1)
    scores = several_scores(right, given, labels)
    truth, kinds = right.ravel().astype(np.int64), ("absent", "present")
    return Examined(scores, Rows(len(data), judged), resampled, kinds, truth, decisions, given)


def judge_scores(data: LabelledTexts, right: np.ndarray, guessed: np.ndarray) -> Examined:
    """Guesses of a number each; the credit of one is minus its distance from what is right.

    Args:
        data: N texts.
        right: ``(N,)``.
        guessed: ``(N,)``.
    """
    texts = data.inputs()

    def judged(place: int) -> Judged:
        one, other = float(right[place]), float(guessed[place])
        return Judged(texts[place], f"{one:g}", f"{other:.4g}", -abs(other - one))

    def resampled(places: np.ndarray) -> dict[str, float]:
        scores = regression_scores(right[places], guessed[places])
        return {name: value for name, value in scores.items() if name != "examples"}

    return Examined(regression_scores(right, guessed), Rows(len(data), judged), resampled, guesses=guessed)


def in_order(parts: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> np.ndarray:
    """Rows that belong to parts of some data, in the order of the whole.

    Args:
        parts: For each part its rows.
        places: For each part the places of its rows in the whole, each in one part.
    """
    return np.concatenate(parts)[np.argsort(np.concatenate(places))]
