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
    from sklearn.metrics import confusion_matrix, matthews_corrcoef, precision_recall_fscore_support

    every = np.arange(len(label_names))
    columns = precision_recall_fscore_support(right, predicted, labels=every, zero_division=0.0)
    names = ("precision", "recall", "f1", "support")
    classes = {
        label: {name: (int if name == "support" else float)(value) for name, value in zip(names, row, strict=True)}
        for label, row in zip(label_names, zip(*columns, strict=True), strict=True)
    }
    return {
        "accuracy": float(np.mean(right == predicted)),
        "macro_f1": float(np.mean(columns[2][occurring])),
        "mcc": float(matthews_corrcoef(right, predicted)),
        "examples": int(right.size),
        "labels": list(label_names),
        "classes": classes,
        "confusion": confusion_matrix(right, predicted, labels=every).tolist(),
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
