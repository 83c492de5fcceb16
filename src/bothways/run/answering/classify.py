"""Classes of texts and pairs of texts, and scores of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bothways.run.answers import Classification, mean_by_text

if TYPE_CHECKING:
    from bothways.run.model import Model


def class_probabilities(model: Model, texts: Sequence[str], pairs: Sequence[str] | None) -> np.ndarray:
    """``(texts, classes)`` the probability of each class; as `Model.class_probabilities` says."""
    head = model.head("classify", "classify")
    encoded = model.encode(texts, pairs)
    out = np.zeros((len(encoded.texts), len(model.labels)), dtype=np.float32)
    for batch, shares in model.run(encoded, lambda _, output: torch.softmax(head(output), -1), "classify"):
        out[batch.rows] = shares.cpu().numpy()
    return mean_by_text(out, encoded)


def classify(model: Model, texts: Sequence[str], pairs: Sequence[str] | None) -> list[Classification]:
    """The class of each text; as `Model.classify` says."""
    return [_classification(model.labels, row) for row in class_probabilities(model, texts, pairs)]


def _classification(labels: Sequence[str], shares: np.ndarray) -> Classification:
    best = int(shares.argmax())
    by_name = {label: float(share) for label, share in zip(labels, shares, strict=True)}
    return Classification(labels[best], float(shares[best]), by_name, (labels[best],))
