"""Texts as numbers: hidden states, and one vector a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bothways.run.answers import mean_by_text
from bothways.run.engines.protocol import HIDDEN, VECTOR, Output
from bothways.run.pooling import check_pooling, normalize

if TYPE_CHECKING:
    from bothways.run.runner import Runner


def hidden(model: Runner, texts: Sequence[str]) -> list[np.ndarray]:
    """``(L, D)`` a text; as `Model.hidden` says."""
    encoded = model.encode(texts, None)
    out = model.by_token(encoded, Output(HIDDEN), (model.config.width,))
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts))
    return np.split(out, encoded.starts[first[1:]]) if len(first) else []


def embed(model: Runner, texts: Sequence[str], pooling: str | None, normalize_vectors: bool | None) -> np.ndarray:
    """``(texts, D)``; as `Model.embed` says."""
    recipe = model.sentence
    way = check_pooling(pooling or recipe.pooling)
    encoded = model.encode(texts, None)
    out = mean_by_text(model.by_sequence(encoded, Output(VECTOR, way), (model.config.width,)), encoded)
    return normalize(out) if (recipe.normalize if normalize_vectors is None else normalize_vectors) else out
