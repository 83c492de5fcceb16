"""Classes that were never trained, by what follows from a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.run.answering.classify import class_probabilities
from bothways.run.answers import Classification

if TYPE_CHECKING:
    from bothways.run.runner import Runner

ENTAILS = ("entailment", "entails", "entailed", "entail")
CONTRADICTS = ("contradiction", "contradicts", "contradictory", "contradict")
_PAIRS = 1024  # pairs of a text and a sentence in memory at a time


def zero_shot(
    model: Runner, texts: Sequence[str], labels: Sequence[str], template: str, several: bool, entailment: str | None
) -> list[Classification]:
    """The class of each text; as `Model.zero_shot` says.

    One of the classes holds: their probabilities are what the model gives to "follows" for each, scaled to sum to one.
    Several may hold: each has the share of "follows" beside "contradicts", or where the model does not know that class
    what it gives to "follows"; those above a half hold.
    """
    said = sentences(labels, template)
    follows, against = _classes(model, entailment)
    if not several and len(labels) < 2:
        raise BothwaysError(
            "there is one class only, so nothing to choose from; give more, or say that several may hold"
        )
    at_once = max(1, _PAIRS // len(labels))
    answers = []
    for begin in range(0, len(texts), at_once):
        some = texts[begin : begin + at_once]
        firsts = [text for text in some for _ in said]
        shares = class_probabilities(model, firsts, said * len(some)).reshape(len(some), len(labels), -1)
        weighed = (_weighed(row, follows, against, several) for row in shares.astype(np.float64))
        answers += [_classification(list(labels), row, several) for row in weighed]
    return answers


def _weighed(shares: np.ndarray, follows: int, against: int | None, several: bool) -> np.ndarray:
    """``(labels,)`` probabilities from ``(labels, classes of the model)``."""
    yes = shares[:, follows]
    if not several:
        return np.asarray(yes / max(yes.sum(), np.finfo(float).tiny))
    return yes if against is None else yes / np.maximum(yes + shares[:, against], np.finfo(float).tiny)


def _classification(labels: list[str], shares: np.ndarray, several: bool) -> Classification:
    order = np.argsort(-shares, kind="stable").tolist()
    held = [labels[place] for place in order if shares[place] > 0.5] if several else [labels[order[0]]]
    by_name = {label: float(share) for label, share in zip(labels, shares, strict=True)}
    return Classification(labels[order[0]], float(shares[order[0]]), by_name, tuple(held))


def sentences(labels: Sequence[str], template: str) -> list[str]:
    """What is said of a text for each class.

    Raises:
        BothwaysError: There are no classes, one is there twice, or the template has not one place for them.
    """
    if isinstance(labels, str) or not labels or not all(isinstance(label, str) and label.strip() for label in labels):
        raise BothwaysError(f"classes should be a list of words, not {labels!r:.60}")
    if len(set(labels)) < len(labels):
        raise BothwaysError(f"a class stands twice among {', '.join(labels)}")
    if template.count("{}") != 1:
        raise BothwaysError(f"the template {template!r} should hold {{}} once, where a class goes")
    return [template.replace("{}", label) for label in labels]


def _classes(model: Runner, entailment: str | None) -> tuple[int, int | None]:
    """The numbers of the model's classes that mean "follows" and "contradicts", the second only where it has one."""
    model.head("classify", "zero_shot")
    names = [label.lower() for label in model.labels]
    if entailment is not None:
        if entailment not in model.labels:
            known = ", ".join(model.labels)
            raise BothwaysError(
                f"{model.name} has no class {entailment!r}; its classes are {known}{closest(entailment, model.labels)}"
            )
        follows = model.labels.index(entailment)
    else:
        found = next((names.index(name) for name in ENTAILS if name in names), None)
        if found is None:
            raise BothwaysError(
                f"no class of {model.name} is called entailment (its classes: {', '.join(model.labels)}); zero-shot "
                "classification needs a model of pairs that was trained on entailment; if this is one, say which class "
                "means that a sentence follows: entailment=..."
            )
        follows = found
    against = next((names.index(name) for name in CONTRADICTS if name in names), None)
    return follows, None if against == follows else against
