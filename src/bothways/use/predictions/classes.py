"""Classes of texts and of pairs of texts: trained ones, or named in the question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.use.formats import Slice
from bothways.use.predictions.shared import Question, Wish, ask_texts, markers_of, reads_pairs

if TYPE_CHECKING:
    from bothways.run.answers import Classification
    from bothways.run.questions import Questions


def classify(model: Questions, source: Any, wish: Wish, *, of_pairs: bool | None = None) -> Question:
    """The trained classes: columns as `class_columns` makes them."""
    of_pairs = reads_pairs(model) if of_pairs is None else of_pairs
    several = model.head_configs["classify"].problem == "several"

    def answer(texts: list[str], pairs: list[str] | None = None) -> Slice:
        return class_columns(model.classify(texts, pairs), model.labels, several)

    return Question(ask_texts(source, wish, pairs=of_pairs, markers=markers_of(model)), answer, table=source)


def pairs(model: Questions, source: Any, wish: Wish) -> Question:
    """The trained classes of pairs of texts."""
    return classify(model, source, wish, of_pairs=True)


def zero_shot(model: Questions, source: Any, wish: Wish) -> Question:
    """Classes that are named in the question.

    Raises:
        BothwaysError: There are fewer than two classes, one of them twice, or a template without a place for them.
    """
    labels = wish.labels
    if len(labels) < (1 if wish.several else 2) or len(set(labels)) < len(labels):
        raise BothwaysError(f"labels must be two or more different classes, not {', '.join(labels)!r}")
    how: dict[str, Any] = {} if wish.template is None else {"template": wish.template}

    def answer(texts: list[str]) -> Slice:
        return class_columns(model.zero_shot(texts, labels, several=wish.several, **how), labels, wish.several)

    return Question(ask_texts(source, wish, pairs=False), answer, table=source)


def class_columns(found: Sequence[Classification], labels: Sequence[str], several: bool) -> dict[str, Any]:
    """Classifications as columns.

    Args:
        found: N of them.
        labels: The C classes.
        several: Whether a text may have several classes, or none.

    Returns:
        The ``prediction``: a class, or a list of classes where there may be several; its ``probability``, where there
        is one; and that of each class in a column ``p(class)``.
    """
    columns: dict[str, Any] = {}
    if several:
        columns["prediction"] = [list(one.labels) for one in found]
    else:
        columns["prediction"] = [one.label for one in found]
        columns["probability"] = [one.probability for one in found]
    return columns | {f"p({label})": [one.probabilities[label] for one in found] for label in labels}
