"""Texts as numbers: hidden states, one vector a text, attention weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bothways.run.answers import mean_by_text
from bothways.run.pooling import check_pooling, normalize, pool

if TYPE_CHECKING:
    from bothways.run.runner import Runner


def hidden(model: Runner, texts: Sequence[str]) -> list[np.ndarray]:
    """``(L, D)`` a text; as `Model.hidden` says."""
    encoded = model.encode(texts, None)
    out = model.by_token(encoded, lambda output: output.sequence, (model.config.width,))
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts))
    return np.split(out, encoded.starts[first[1:]]) if len(first) else []


def embed(model: Runner, texts: Sequence[str], pooling: str | None, normalize_vectors: bool | None) -> np.ndarray:
    """``(texts, D)``; as `Model.embed` says."""
    recipe = model.sentence
    way = check_pooling(pooling or recipe.pooling)
    encoded = model.encode(texts, None)
    out = np.zeros((len(encoded.texts), model.config.width), dtype=np.float32)
    for batch, states in model.run(encoded, lambda _, output: output.sequence):
        out[batch.rows] = pool(states.float().cpu().numpy(), batch.starts, way)
    out = mean_by_text(out, encoded)
    return normalize(out) if (recipe.normalize if normalize_vectors is None else normalize_vectors) else out


def attentions(model: Runner, text: str, pair: str | None) -> tuple[list[str], np.ndarray]:
    """Tokens, and ``(layers, heads, L, L)`` who looks at whom; as `Model.attentions` says."""
    encoded = model.encode([text], None if pair is None else [pair])
    batch = encoded.batch(np.arange(1))
    with torch.inference_mode():
        output = model.encoder(batch, attentions=True)
    weights = np.stack([layer[0].float().cpu().numpy() for layer in output.attentions or []])
    return [model.tokenizer.tokens[token] for token in batch.token_ids[: weights.shape[-1]]], weights
