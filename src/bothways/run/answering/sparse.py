"""Texts as sparse vectors over the vocabulary, and the words in them.

How weights are made stands in ``Model.decoding["sparse"]``: ``way``, a name of `bothways.model.heads.sparse.WAYS`.

Shapes: N texts, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.run.answering.parts import said_once
from bothways.run.engines.protocol import SPARSE, Output

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from bothways.run.runner import Runner

_TEXTS = 4096
"""Texts that are sorted by length together."""


def sparse_vectors(model: Runner, texts: Sequence[str], top: int | None = None) -> csr_array:
    """``(N, V)`` float32; as `Model.sparse_vectors` says."""
    head = model.head("mlm", "sparse_vectors")
    if head.decoder != "plain":
        raise BothwaysError(f"{model.name} guesses words with another decoder behind it, which gives no sparse vectors")
    if top is not None and top < 1:
        raise BothwaysError(f"top must be 1 or more, not {top!r}")
    need("scipy", "torch", "Sparse vectors")
    from scipy.sparse import csr_array, vstack

    with said_once(model):
        parts = [_part(model, texts[begin : begin + _TEXTS], top) for begin in range(0, len(texts), _TEXTS)]
    return (
        vstack(parts, format="csr") if parts else csr_array((0, model.config.embeddings.vocab_size), dtype=np.float32)
    )


def _part(model: Runner, texts: Sequence[str], top: int | None) -> csr_array:
    from scipy.sparse import csr_array, vstack

    encoded = model.encode(texts)
    way = model.decoding.get("sparse", {}).get("way", "max")
    rows, places = [], []
    for batch, values in model.run(encoded, Output(SPARSE, way)):
        rows.append(_compressed(values, top))
        places.append(batch.rows)
    found = vstack(rows, format="csr")[np.argsort(np.concatenate(places))]
    if len(encoded) == encoded.truncation.all_texts:
        return found
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts + 1))
    spans = pairwise(first)
    return vstack([csr_array(found[a:b].toarray().max(0, keepdims=True)) for a, b in spans], format="csr")


def _compressed(values: np.ndarray, top: int | None) -> csr_array:
    """Rows of weights without their zeros, or with no more than the largest of each."""
    from scipy.sparse import csr_array

    if top is not None and top < values.shape[1]:
        least = np.partition(values, -top, axis=1)[:, -top, None]
        values = np.where(values >= least, values, 0.0)
    return csr_array(values)


def sparse_terms(model: Runner, texts: Sequence[str], top: int) -> list[dict[str, float]]:
    """The heaviest words of each text; as `Model.sparse_terms` says."""
    tokens = model.tokenizer.tokens
    return [
        {tokens[column]: float(weight) for column, weight in row}
        for row in _heaviest(sparse_vectors(model, texts, top), top)
    ]


def _heaviest(vectors: Any, top: int) -> Iterator[list[tuple[int, float]]]:
    for begin, end in pairwise(vectors.indptr):
        own = zip(vectors.indices[begin:end], vectors.data[begin:end], strict=True)
        yield sorted(own, key=lambda one: -one[1])[:top]
