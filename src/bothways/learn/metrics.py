"""How well a classifier does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need


def classification_scores(
    labels: Sequence[int] | np.ndarray, predictions: Sequence[int] | np.ndarray, label_names: Sequence[str]
) -> dict[str, Any]:
    """Scores predicted classes against the right ones.

    Args:
        labels: ``(N,)`` the right class of each example, as its place in `label_names`.
        predictions: ``(N,)`` the predicted class of each example.
        label_names: The names of the C classes.

    Returns:
        Plain data: ``accuracy``; ``macro_f1``, the mean over the classes that occur in labels or predictions; ``mcc``,
        Matthews' correlation coefficient; ``examples``, N; ``labels``, the names; ``classes``, by name ``precision``,
        ``recall``, ``f1`` and ``support``; ``confusion``, C rows (right class) of C counts (predicted class).

    Raises:
        BothwaysError: There is nothing to score, or the arguments do not fit each other.
    """
    right, predicted = np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)
    if right.shape != predicted.shape:
        raise BothwaysError(
            f"there are {len(right):,} labels but {len(predicted):,} predictions: score the same examples"
        )
    if right.size == 0:
        raise BothwaysError("there is nothing to score: the data hold no labelled example")
    occurring = np.union1d(right, predicted)
    unnamed = occurring[(occurring < 0) | (occurring >= len(label_names))]
    if unnamed.size:
        raise BothwaysError(f"class {unnamed[0]} has no name: there are {len(label_names)} label names")
    need("sklearn", "torch", "Scoring")
    from sklearn.metrics import precision_recall_fscore_support

    every, counts = np.arange(len(label_names)), confusion_counts(right, predicted, len(label_names))
    columns = precision_recall_fscore_support(right, predicted, labels=every, zero_division=0.0)
    names = ("precision", "recall", "f1", "support")
    classes = {
        label: {name: (int if name == "support" else float)(value) for name, value in zip(names, row, strict=True)}
        for label, row in zip(label_names, zip(*columns, strict=True), strict=True)
    }
    return {
        "accuracy": float(np.mean(right == predicted)),
        "macro_f1": float(np.mean(columns[2][occurring])),
        "mcc": confusion_metrics(counts)["mcc"],
        "examples": int(right.size),
        "labels": list(label_names),
        "classes": classes,
        "confusion": counts.tolist(),
    }


def confusion_metrics(counts: np.ndarray) -> dict[str, float]:
    """The three figures of `classification_scores` from a confusion alone, fast enough to be asked a thousand times.

    Args:
        counts: ``(C, C)`` how often each right class (row) was given each predicted one (column).
    """
    whole, diagonal = counts.sum(), np.diag(counts).astype(np.float64)
    right, predicted = counts.sum(1).astype(np.float64), counts.sum(0).astype(np.float64)
    occurring = (right + predicted) > 0
    f1 = 2 * diagonal[occurring] / (right + predicted)[occurring]
    # Gorodkin 2004: Matthews' coefficient of C classes is a correlation
    together = whole * diagonal.sum() - right @ predicted
    spread = np.sqrt((whole**2 - right @ right) * (whole**2 - predicted @ predicted))
    return {
        "macro_f1": float(f1.mean()),
        "accuracy": float(diagonal.sum() / whole),
        "mcc": float(together / spread) if spread else 0.0,
    }


def confusion_counts(right: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """``(C, C)`` how often each right class (row) was given each predicted one (column)."""
    return np.bincount(right * classes + predicted, minlength=classes**2).reshape(classes, classes)


def several_counts(flags: np.ndarray, given: np.ndarray) -> np.ndarray:
    """``(N, 3 C + 1)`` what the scores of N decisions about C labels are sums of.

    For each label whether it was rightly given, given at all, right at all; last, whether all labels are right.

    Args:
        flags: ``(N, C)`` whether a label is right.
        given: ``(N, C)`` whether it was given.
    """
    flags, given = np.asarray(flags, dtype=bool), np.asarray(given, dtype=bool)
    parts = [flags & given, given, flags, (flags == given).all(1, keepdims=True)]
    return np.concatenate(parts, axis=1).astype(np.float64)


def several_metrics(counts: np.ndarray, examples: float) -> dict[str, float]:
    """The figures of `several_scores` from sums of `several_counts`.

    Args:
        counts: ``(3 C + 1,)``.
        examples: How many examples they are sums over.
    """
    both, given, right = counts[:-1].reshape(3, -1)
    occurring = given + right > 0
    f1 = 2 * both[occurring] / (given + right)[occurring]
    decisions, hits = examples * both.size, both.sum()
    chosen, wanted = given.sum(), right.sum()
    spread = np.sqrt(chosen * (decisions - chosen) * wanted * (decisions - wanted))
    return {
        "macro_f1": float(f1.mean()) if f1.size else 0.0,
        "accuracy": float(counts[-1] / examples),
        "mcc": float((decisions * hits - chosen * wanted) / spread) if spread else 0.0,
        "micro_f1": float(2 * hits / (chosen + wanted)) if chosen + wanted else 0.0,
    }


def several_scores(flags: np.ndarray, given: np.ndarray, label_names: Sequence[str]) -> dict[str, Any]:
    """Scores where a text may have several labels, or none.

    Args:
        flags: ``(N, C)`` whether a label is right.
        given: ``(N, C)`` whether it was given.
        label_names: The names of the C labels.

    Returns:
        Plain data: ``macro_f1``, the mean over the labels that occur; ``accuracy``, the share of texts whose labels are
        all right; ``mcc``, Matthews' correlation coefficient of all N times C decisions; ``micro_f1`` over them;
        ``examples``, N; ``labels``, the names; ``classes``, by name ``precision``, ``recall``, ``f1`` and ``support``.

    Raises:
        BothwaysError: There is nothing to score.
    """
    if not len(flags):
        raise BothwaysError("there is nothing to score: the data hold no labelled example")
    counts = several_counts(flags, given).sum(0)
    classes = {
        name: {
            "precision": float(both / chosen) if chosen else 0.0,
            "recall": float(both / right) if right else 0.0,
            "f1": float(2 * both / (chosen + right)) if chosen + right else 0.0,
            "support": int(right),
        }
        for name, both, chosen, right in zip(label_names, *counts[:-1].reshape(3, -1), strict=True)
    }
    more = {"examples": len(flags), "labels": list(label_names), "classes": classes}
    return several_metrics(counts, len(flags)) | more


def regression_scores(right: Sequence[float] | np.ndarray, guessed: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Scores guessed numbers against the right ones.

    Args:
        right: ``(N,)``.
        guessed: ``(N,)``.

    Returns:
        Plain data: ``spearman`` and ``pearson``, correlations of ranks and of numbers, 0 where either side is constant;
        ``mse`` and ``mae``, the means of squared and of absolute differences; ``examples``, N.

    Raises:
        BothwaysError: There is nothing to score.
    """
    right, guessed = np.asarray(right, dtype=np.float64), np.asarray(guessed, dtype=np.float64)
    if not right.size:
        raise BothwaysError("there is nothing to score: the data hold no labelled example")
    need("scipy", "torch", "Scoring")
    from scipy.stats import rankdata

    apart = guessed - right
    return {
        "spearman": _correlation(rankdata(right), rankdata(guessed)),
        "pearson": _correlation(right, guessed),
        "mse": float(np.mean(apart**2)),
        "mae": float(np.mean(np.abs(apart))),
        "examples": int(right.size),
    }


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation; 0 where either is constant, which says nothing of the other."""
    sides = []
    for raw in (one, other):
        apart = raw - raw.mean()
        length = np.linalg.norm(apart)
        if not length > 1e-12 * np.sqrt(len(raw)) * np.abs(raw).max():  # what rounding leaves of a constant
            return 0.0
        sides.append(apart / length)
    return float(sides[0] @ sides[1])
