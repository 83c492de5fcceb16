"""Guessed tags beside the right ones, and what must be beaten.

Shapes: N texts, W words of all texts, C tags.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bothways.learn.metrics import classification_scores, confusion_counts, confusion_metrics
from bothways.learn.tasks.protocol import Examined, Judged, Mark
from bothways.learn.tasks.tagging.data import TaggedTexts, aligned, marks_of, said_of
from bothways.learn.tasks.tagging.span_scores import count_spans
from bothways.text.encoded import gather_index
from bothways.text.tag_schemes import find_spans

METRICS = ("f1", "precision", "recall", "accuracy", "macro_f1")
"""Of spans where tags write them, but for the accuracy, which is of words. Of tags that write none all are of words:
the first four are the same number there, for each word is given exactly one tag."""


def judge_tags(data: TaggedTexts, guessed_W: np.ndarray, probabilities: np.ndarray | None = None) -> Examined:
    """Guesses beside what is right.

    Args:
        data: N texts, W words.
        guessed_W: ``(W,)`` the guessed tags, numbered as the data's.
        probabilities: ``(W, C)`` of each tag, where they are known.
    """
    right_W = data.tags.astype(np.int64)
    judge = _judge_words if data.scheme == "words" else _judge_spans
    scores, credits, resampled = judge(data, right_W, guessed_W)
    facts = {"examples": len(data), "words": len(right_W), "scheme": data.scheme}
    rows = _rows(data, guessed_W, credits, probabilities)
    return Examined(scores | facts, rows, resampled, data.names, right_W, probabilities, guessed_W)


_Parts = tuple[dict[str, Any], np.ndarray, Callable[[np.ndarray], dict[str, float]]]
"""All scores, the credit of each text, and the metrics of some of them."""


def _judge_spans(data: TaggedTexts, right_W: np.ndarray, guessed_W: np.ndarray) -> _Parts:
    counts = count_spans(data.tag_set, right_W, guessed_W, data.edges)
    return counts.metrics() | {"classes": counts.by_kind()}, counts.by_text(), counts.metrics


def _judge_words(data: TaggedTexts, right_W: np.ndarray, guessed_W: np.ndarray) -> _Parts:
    found = classification_scores(right_W, guessed_W, data.names)
    same = dict.fromkeys(METRICS[:3], found["accuracy"])
    text_W = np.repeat(np.arange(len(data)), np.diff(data.edges))
    hits = np.bincount(text_W, weights=right_W == guessed_W, minlength=len(data)) / np.diff(data.edges)

    def resampled(places: np.ndarray) -> dict[str, float]:
        words = gather_index(data.edges[places], np.diff(data.edges)[places])
        figures = confusion_metrics(confusion_counts(right_W[words], guessed_W[words], len(data.names)))
        return dict.fromkeys(METRICS[:4], figures["accuracy"]) | {"macro_f1": figures["macro_f1"]}

    return same | found, hits, resampled


def _rows(
    data: TaggedTexts, guessed_W: np.ndarray, credits: np.ndarray, probabilities: np.ndarray | None
) -> list[Judged]:
    """The texts with what was said of them; how sure a model was of a text is how sure it was of its hardest word."""
    sure = doubt = np.full(len(data), np.nan)
    if probabilities is not None:
        every, begins = np.arange(len(guessed_W)), data.edges[:-1]
        sure = np.minimum.reduceat(probabilities[every, guessed_W], begins)
        doubt = np.minimum.reduceat(probabilities[every, data.tags], begins)
    both = (data.tags, guessed_W)
    marks: list[list[tuple[Mark, ...]]] = [[()] * len(data) for _ in both]
    if data.scheme != "words":
        marks = [marks_of(data, find_spans(data.tag_set, tags, data.edges)) for tags in both]
    said = (data.texts, *(said_of(data, tags) for tags in both))
    figures = (credits.tolist(), sure.tolist(), doubt.tolist())
    return [Judged(*row) for row in zip(*said, *figures, *marks, strict=True)]


def frequent_tags(train: TaggedTexts, test: TaggedTexts) -> Examined:
    """Gives each word its most frequent tag in training, and unknown words the most frequent of all."""
    right = aligned(test, train.names, train.scheme)
    numbers: dict[str, int] = {}
    word_W = np.array([numbers.setdefault(word, len(numbers)) for words in train.words() for word in words])
    count = len(train.names)
    pairs, times = np.unique(word_W * count + train.tags, return_counts=True)
    order = np.lexsort((pairs, -times))  # the most frequent first, of equals the lower
    words, first = np.unique(pairs[order] // count, return_index=True)
    best = np.empty(len(numbers) + 1, dtype=np.int64)
    best[words] = pairs[order][first] % count
    best[-1] = np.bincount(train.tags).argmax()
    return judge_tags(right, best[[numbers.get(word, -1) for words in test.words() for word in words]])
