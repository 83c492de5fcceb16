"""Explains what a model says of a text."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.errand import on_errand
from bothways.use.explain.explanation import Explanation, Word
from bothways.use.explain.gradients import integrated_gradients
from bothways.use.explain.occlusion import numbers, occlusion
from bothways.use.explain.subject import Subject
from bothways.use.explain.targets import Target, targets

if TYPE_CHECKING:
    from bothways.run.questions import Questions

WAYS = ("gradients", "occlusion")


def explain(
    model: Questions,
    text: str,
    pair: str | None = None,
    *,
    target: str | None = None,
    at: str | None = None,
    way: str | None = None,
) -> Explanation:
    """What each word adds to what a model says.

    Of a classifier the log-odds of a class are explained, of a regression or a reranker the score, of a tagger the
    log-odds of a word's tag, of a model that answers questions the score of its answer, and of a model for vectors the
    cosine of two texts.

    Args:
        model: Any that `bothways.load` opens.
        text: The text; the question for a model that answers.
        pair: The second text of a pair; the text that holds the answer; the text to compare with.
        target: The class, or tag, that is explained; None for the one that the model gives.
        at: For a tagger the word, or any part of the text that begins with it.
        way: ``"gradients"`` (integrated gradients, `bothways.use.explain.gradients`), or ``"occlusion"``
            (`bothways.use.explain.occlusion`); None takes gradients where the model has weights, else occlusion.

    Returns:
        All words with their weights, and the number that they make up.

    Raises:
        BothwaysError: There is no such class, way or part of the text; the text has no words; or the model is exported
            and gradients are asked for.
    """
    has_weights = hasattr(model, "encoder")
    way = way or ("gradients" if has_weights else "occlusion")
    if way not in WAYS:
        raise BothwaysError(f"there is no way {way!r} to explain; there are {', '.join(WAYS)}")
    if way == "gradients" and not has_weights:
        raise BothwaysError(f"{model.name} is exported and has no gradients; explain it by occlusion, or the original")
    with on_errand():  # what is cut stands in the explanation
        return _together([_explained(*side, way) for side in targets(model, text, pair, target, at)])


def _explained(subject: Subject, target: Target, way: str) -> Explanation:
    value, baseline = numbers(subject, target, np.stack([subject.ids, subject.masked]))
    weights, error = (occlusion(subject, target), None) if way == "occlusion" else integrated_gradients(subject, target)
    words = tuple(
        Word(subject.texts[place.source][place.start : place.end], place.start, place.end, place.source, float(weight))
        for place, weight in zip(subject.words, weights, strict=True)
    )
    cut = subject.encoded.truncation.tokens
    return Explanation(target.said, target.told, target.unit, float(value), float(baseline), words, way, error, cut)


def _together(explained: list[Explanation]) -> Explanation:
    """One explanation; of a similarity both texts' words, each text with a baseline of its own."""
    if len(explained) == 1:
        return explained[0]
    words = tuple(replace(word, source=source) for source, one in enumerate(explained) for word in one.words)
    errors = [one.error for one in explained if one.error is not None]
    baseline = sum(one.baseline for one in explained) / len(explained)
    error = max(errors) if errors else None
    return replace(explained[0], words=words, baseline=baseline, error=error, cut=sum(one.cut for one in explained))
