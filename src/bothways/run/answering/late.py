"""Texts as a vector a token, and how well queries find their tokens in texts.

How queries and texts are read stands in ``Model.decoding["late"]``: a `bothways.run.late_recipe.LateRecipe`.

Shapes: N texts, P width of a token's vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from bothways.run.answering.parts import said_once
from bothways.run.engines.protocol import Output
from bothways.run.late_recipe import LateRecipe
from bothways.text.encoded import Encoded, gather_index

if TYPE_CHECKING:
    from bothways.run.runner import Runner

_TEXTS = 4096
"""Texts that are sorted by length together."""


def token_vectors(model: Runner, texts: Sequence[str], query: bool) -> list[np.ndarray]:
    """``(L, P)`` float32 a text; as `Model.token_vectors` says."""
    width = model.head("late", "token_vectors").outputs
    recipe = LateRecipe.of(model.decoding.get("late", {}))
    found: list[np.ndarray] = []
    with said_once(model):
        for begin in range(0, len(texts), _TEXTS):
            found += _part(model, recipe, texts[begin : begin + _TEXTS], query, width)
    return found


def _part(model: Runner, recipe: LateRecipe, texts: Sequence[str], query: bool, width: int) -> list[np.ndarray]:
    policy = model.policy()
    encoded = recipe.encode(model.tokenizer, texts, query=query, max_length=model.max_length, truncation=policy)
    model.note_cut(encoded.truncation)
    if query and recipe.expand == "unseen":
        out = _unseen(model, recipe, encoded, width)
    else:
        out = model.by_token(encoded, Output("late"), (width,))
    if query:
        return [out[a:b] for a, b in pairwise(encoded.starts)]
    kept = ~np.isin(encoded.token_ids, recipe.skipped(model.tokenizer))
    return [out[a:b][kept[a:b]] for a, b in pairwise(encoded.starts)]


def _unseen(model: Runner, recipe: LateRecipe, encoded: Encoded, width: int) -> np.ndarray:
    """Queries whose mask tokens are not seen: in plain torch, which alone has such attention."""
    import torch

    from bothways.model.heads.late import unseen_states

    encoder, head = model.encoder, model.heads["late"]  # type: ignore[attr-defined]
    encoder.eval()
    out = np.empty((len(encoded.token_ids), width), dtype=np.float32)
    for batch in encoded.batches(4096):
        seen = recipe.seen(batch.token_ids, model.tokenizer.mask_id, batch.starts)
        with torch.inference_mode():
            values = head(unseen_states(encoder, batch, seen)).cpu().numpy()
        out[gather_index(encoded.starts[batch.rows], batch.lengths)] = values
    return out


def maxsim(queries: Sequence[np.ndarray], texts: Sequence[np.ndarray]) -> np.ndarray:
    """``(queries, texts)`` float32: for each pair the sum of the best products of the query's tokens."""
    if not queries or not texts:
        return np.zeros((len(queries), len(texts)), dtype=np.float32)
    starts = np.concatenate(([0], np.cumsum([len(own) for own in texts])[:-1]))
    flat_TP = np.concatenate(texts)
    return np.stack([np.maximum.reduceat(own @ flat_TP.T, starts, axis=1).sum(0) for own in queries])


def pair_maxsim(model: Runner, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """``(pairs,)`` float32: how well each text answers its query; each query and text is read once."""
    places = {query: place for place, query in enumerate(dict.fromkeys(queries))}
    asked = token_vectors(model, list(places), True)
    found = np.empty(len(texts), dtype=np.float32)
    for begin in range(0, len(texts), _TEXTS):
        part = token_vectors(model, texts[begin : begin + _TEXTS], False)
        for place, own_LP in enumerate(part, start=begin):
            found[place] = (asked[places[queries[place]]] @ own_LP.T).max(1).sum()
    return found
