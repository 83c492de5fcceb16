"""Classes of texts and pairs of texts, and scores of them.

What a classifier's numbers mean is its head's `problem`: one class holds, several may, or they are scores. What was
fitted after training stands in ``Model.decoding["classify"]``:

- ``inputs``: ``"texts"`` or ``"pairs"``, what it was trained to read;
- ``symmetric``: whether a pair is read in both orders, and the answers averaged;
- ``temperature``: what logits are divided by (Guo et al. 2017), which never changes the likeliest class;
- ``thresholds``: by label, the probability from which it is given, where several may hold; one half without them;
- ``scale``: mean and deviation of the scores in training, until they are part of the weights;
- ``activation``: ``"sigmoid"`` where a single number is told as a probability, as of rerankers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.run.answering.parts import by_parts
from bothways.run.answers import Classification, mean_by_text
from bothways.run.engines.protocol import Output
from bothways.run.numbers import log_sigmoid, log_softmax, sigmoid, softmax
from bothways.text.encoded import Encoded

if TYPE_CHECKING:
    from bothways.run.runner import Runner

Scored = tuple[np.ndarray, Encoded]
_HALF = 0.5


def class_logits(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
    """What a classifier says of each text before any temperature: the probabilities are made of it.

    A text that is read once has the numbers of the head. The probabilities of a long text's windows are averaged,
    weighted by their tokens, and so are those of both orders of a symmetric pair; then these are the logits of the
    average.

    Returns:
        ``(texts, classes)`` float32.

    Raises:
        BothwaysError: The model has no classifier, or one that gives scores.
    """
    problem = check_classes(model, pairs is not None)
    return by_parts(model, texts, pairs, lambda some, others: _class_logits(model, some, others, problem))


def _class_logits(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None, problem: str) -> np.ndarray:
    logs = _log_sigmoids if problem == "several" else _log_softmax
    sides = [_by_sequence(model, *order) for order in _orders(model, texts, pairs)]
    plain = len(sides) == 1 and len(sides[0][1]) == sides[0][1].truncation.all_texts
    if plain:
        return sides[0][0]
    mean = np.logaddexp.reduce([_log_mean(logs(values), encoded) for values, encoded in sides], axis=0)
    mean -= np.log(len(sides))
    return np.asarray(mean[..., 0] - mean[..., 1] if problem == "several" else mean, dtype=np.float32)


def tempered(logits: np.ndarray, problem: str, temperature: float = 1.0) -> np.ndarray:
    """Probabilities of logits, ``(texts, classes)`` float32.

    Args:
        logits: ``(texts, classes)`` from `class_logits`.
        problem: ``"one"``: they sum to one; ``"several"``: each class by itself.
        temperature: What the logits are divided by.
    """
    scaled = logits.astype(np.float32) / np.float32(temperature)
    return sigmoid(scaled) if problem == "several" else softmax(scaled)


def class_probabilities(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
    """``(texts, classes)`` the probability of each class; as `Model.class_probabilities` says."""
    logits = class_logits(model, texts, pairs)
    return tempered(logits, _problem(model, "classify"), _decoding(model).get("temperature", 1.0))


def thresholds(model: Runner) -> np.ndarray:
    """``(classes,)`` float32: the probability from which each label is given, where several may hold."""
    fitted = _decoding(model).get("thresholds") or {}
    return np.array([fitted.get(label, _HALF) for label in model.labels], dtype=np.float32)


def classify(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Classification]:
    """The class of each text; as `Model.classify` says."""
    shares = class_probabilities(model, texts, pairs)
    if _problem(model, "classify") == "one":
        return [_classification(model.labels, row, (int(row.argmax()),)) for row in shares]
    given = shares >= thresholds(model)
    order = np.argsort(-shares, axis=1, kind="stable")
    return [
        _classification(model.labels, row, [int(place) for place in likeliest if holds[place]])
        for row, holds, likeliest in zip(shares, given, order, strict=True)
    ]


def _classification(labels: Sequence[str], shares: np.ndarray, given: Sequence[int]) -> Classification:
    best = int(shares.argmax())
    by_name = {label: float(share) for label, share in zip(labels, shares, strict=True)}
    return Classification(labels[best], float(shares[best]), by_name, tuple(labels[place] for place in given))


def score(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
    """``(texts,)`` float32 numbers; as `Model.score` says."""
    return activated(model, raw_scores(model, texts, pairs))


def activated(model: Runner, raw: np.ndarray) -> np.ndarray:
    """Raw scores as they are told: between 0 and 1 where that is what was trained."""
    return sigmoid(raw) if _decoding(model).get("activation") == "sigmoid" else raw


def raw_scores(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
    """``(texts,)`` float32, what the head says of each text, or pair, before any activation."""
    check_scores(model, pairs is not None)
    mean, deviation = _decoding(model).get("scale", (0.0, 1.0))

    def answer(some: Sequence[str], others: Sequence[str] | None) -> np.ndarray:
        sides = [mean_by_text(*_by_sequence(model, *order))[:, 0] for order in _orders(model, some, others)]
        return np.asarray(np.mean(sides, axis=0) * deviation + mean, dtype=np.float32)

    return by_parts(model, texts, pairs, answer)


def score_pairs(model: Runner, a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """``(pairs,)`` float32 how well two texts go together; as `Model.score_pairs` says."""
    problem = _problem(model, "score_pairs")
    if problem == "scores":
        return score(model, a, b)
    if problem == "several" or len(model.labels) != 2:
        raise BothwaysError(
            f"score_pairs needs scores or two classes, but {model.name} has {len(model.labels)} classes "
            f"({', '.join(model.labels[:8])}): bothways predict (in Python model.classify)"
        )
    return class_probabilities(model, a, b)[:, 1]


def check_classes(model: Runner, of_pairs: bool) -> str:
    """The problem of a model that is asked for classes.

    Raises:
        BothwaysError: It has no classifier, gives scores, or was trained on single texts where it is asked about pairs,
            or the other way round.
    """
    problem = _problem(model, "classify")
    if problem == "scores":
        raise BothwaysError(f"{model.name} gives scores, not classes: bothways predict (in Python model.score)")
    _check_inputs(model, of_pairs)
    return problem


def check_scores(model: Runner, of_pairs: bool) -> None:
    """The same of a model that is asked for scores.

    Raises:
        BothwaysError: As `check_classes`, but that it gives classes, or several numbers.
    """
    if _problem(model, "score") != "scores":
        raise BothwaysError(f"{model.name} gives classes, not scores: bothways predict (in Python model.classify)")
    if len(model.labels) != 1:
        raise BothwaysError(f"{model.name} gives {len(model.labels)} numbers for a text; only one can be asked for")
    _check_inputs(model, of_pairs)


def _check_inputs(model: Runner, of_pairs: bool) -> None:
    trained = _decoding(model).get("inputs")
    if trained is not None and (trained == "pairs") is not of_pairs:
        kinds = ("pairs of texts", "single texts")
        had, asked = kinds if trained == "pairs" else kinds[::-1]
        raise BothwaysError(f"{model.name} was trained on {had}, and cannot be asked about {asked}")


def _problem(model: Runner, method: str) -> str:
    model.head("classify", method)  # says so where there is none
    return model.head_configs["classify"].problem


def _decoding(model: Runner) -> dict[str, Any]:
    return model.decoding.get("classify", {})


def _orders(
    model: Runner, texts: Sequence[str], pairs: Sequence[str] | None
) -> list[tuple[Sequence[str], Sequence[str] | None]]:
    """The texts as they are read: pairs twice where their order is to mean nothing."""
    both = pairs is not None and bool(_decoding(model).get("symmetric"))
    return [(texts, pairs), (pairs, texts)] if both and pairs is not None else [(texts, pairs)]


def _by_sequence(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None) -> Scored:
    """What the head says of each sequence, ``(S, C)`` float32, and the sequences."""
    encoded = model.encode(texts, pairs)
    return model.by_sequence(encoded, Output("classify"), (len(model.labels),)), encoded


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """``(S, C)`` float64."""
    return log_softmax(logits.astype(np.float64))


def _log_sigmoids(logits: np.ndarray) -> np.ndarray:
    """``(S, C, 2)`` float64: that each class holds, and that it does not."""
    return log_sigmoid(np.stack([logits, -logits], -1).astype(np.float64))


def _log_mean(logs: np.ndarray, encoded: Encoded) -> np.ndarray:
    """The logarithm of the mean probability of each text, from those of its windows, weighted by their tokens."""
    if len(encoded) == encoded.truncation.all_texts:
        return logs
    weights = encoded.lengths.astype(np.float64).reshape(-1, *[1] * (logs.ndim - 1))
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts))
    total = np.add.reduceat(weights, first, axis=0)
    return np.asarray(np.logaddexp.reduceat(logs + np.log(weights), first, axis=0) - np.log(total))
