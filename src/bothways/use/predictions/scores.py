"""Scores of texts and of pairs of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bothways.use.formats import Slice
from bothways.use.predictions.shared import Question, Wish, ask_texts, markers_of, reads_pairs

if TYPE_CHECKING:
    from bothways.run.questions import Questions


def regress(model: Questions, source: Any, wish: Wish) -> Question:
    """The ``prediction``: a number in the units of training."""

    def answer(texts: list[str], pairs: list[str] | None = None) -> Slice:
        return {"prediction": model.score(texts, pairs)}

    return Question(ask_texts(source, wish, pairs=reads_pairs(model), markers=markers_of(model)), answer, table=source)
