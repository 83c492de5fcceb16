"""Measuring vectors: what is measured follows from the data, or is named."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.learn.measures.clustering import measure_clustering
from bothways.learn.measures.collection import is_collection, read_collection
from bothways.learn.measures.measured import Measured
from bothways.learn.measures.pairs import measure_bitext, measure_labelled, measure_similarity
from bothways.learn.measures.reranking import measure_reranking
from bothways.learn.measures.retrieval import Vectors, measure_retrieval
from bothways.learn.tasks.ranking.data import read as read_ranked
from bothways.learn.vectors.data import FORMS, VectorData, read_vectors
from bothways.progress import progress
from bothways.run.questions import Questions

MEASURES = {
    "sts": "scored",
    "pairs": "labelled",
    "bitext": "pairs",
    "clustering": "classes",
    "reranking": "triplets",
    "retrieval": "",
}
"""What can be measured, and the form of data (`bothways.learn.vectors.data.FORMS`) that it suits."""


def evaluate_vectors(
    model: Questions,
    data: Any,
    measure: str | None = None,
    *,
    split: str | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    pooling: str | None = None,
    dims: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures the vectors of any model.

    Args:
        model: Makes the vectors: with its own pooling, prompts and similarity.
        data: Rows of pairs, of texts with classes or of queries with their texts; for retrieval a folder with a corpus,
            queries and judgements (`bothways.learn.measures.collection.read_collection`).
        measure: A name of `MEASURES`; None takes what the data suits.
        split: Which judgements of a folder.
        text: The column of (first) texts or queries; None finds it, as the next two.
        text_pair: The column of second texts.
        label: The column of scores, labels or classes.
        pooling: As in `Questions.embed`, for comparing ways of pooling.
        dims: As in `Questions.embed`.
        seed: Of the bootstrap's resamples and of clusters.

    Returns:
        Plain data: ``model``, ``data``, ``measure``, ``main`` (the name of the main score), its ``interval`` of 95 %,
        ``scores`` by name, how many ``examples``, ``seconds``, and what else a measure tells.

    Raises:
        BothwaysError: The data does not do for the measure; the sentence says what it needs.
    """
    began = time.monotonic()
    measure, read = _read(data, measure, split, text, text_pair, label)
    embed, likeness = vectors_of(model, pooling, dims), model.sentence.similarity
    match measure:
        case "retrieval":
            found = measure_retrieval(embed, read, likeness)
        case "reranking":
            found = measure_reranking(embed, read, likeness)
        case "clustering":
            found = measure_clustering(embed, read, seed)
        case "bitext":
            found = measure_bitext(embed, read, likeness)
        case "pairs":
            found = measure_labelled(embed, read, likeness)
        case _:
            found = measure_similarity(embed, read, likeness)
    return _described(model, read.name, measure, found, pooling, dims, seed, began)


def _described(
    model: Questions,
    data: str,
    measure: str,
    found: Measured,
    pooling: str | None,
    dims: int | None,
    seed: int,
    began: float,
) -> dict[str, Any]:
    said = {"model": model.name, "data": data, "measure": measure, **found.described(seed)}
    said |= {"pooling": pooling or model.sentence.pooling, "dims": dims or model.vector_width}
    return said | {"similarity": model.sentence.similarity, "seconds": round(time.monotonic() - began, 1)}


def _read(
    data: Any, measure: str | None, split: str | None, text: str | None, text_pair: str | None, label: str | None
) -> tuple[str, Any]:
    if measure is not None and measure not in MEASURES:
        raise BothwaysError(
            f"there is no measure {measure!r}; there are {', '.join(MEASURES)}{closest(measure, MEASURES)}"
        )
    if measure == "retrieval" or (measure is None and is_collection(data)):
        if not is_collection(data):
            raise BothwaysError(
                f"retrieval needs a folder with corpus.jsonl, queries.jsonl and qrels_test.jsonl, and {data} is not one"
            )
        return "retrieval", read_collection(data, split)
    if split is not None:
        raise BothwaysError("a split is chosen of a folder of judgements, for retrieval; give the file of rows itself")
    if measure == "reranking":
        return measure, read_ranked(data, text, text_pair, label)
    read = read_vectors(data, text, text_pair, None, label)
    suited = next((name for name, form in MEASURES.items() if form == read.form), None)
    measure = measure or suited
    if measure is None:
        raise BothwaysError(
            f"{read.name} holds {FORMS[read.form]}, of which nothing is measured; add a score or a class"
        )
    if measure == "reranking":  # told from its columns, and read as rankings are
        return measure, read_ranked(data, text, text_pair, label)
    return measure, _fitting(read, measure)


def _fitting(read: VectorData, measure: str) -> VectorData:
    wanted = MEASURES[measure]
    if measure == "sts" and read.form == "labelled":
        read.flags()  # 0 and 1 are scores too; words are not
        return VectorData("scored", read.texts, read.starts, read.scores().tolist(), read.name, read.where)
    if read.form != wanted:
        raise BothwaysError(f"{measure} needs {FORMS[wanted]}, and {read.name} holds {FORMS[read.form]}")
    return read


def vectors_of(model: Questions, pooling: str | None, dims: int | None) -> Vectors:
    """What makes vectors, a window of texts at a time, so that memory holds little but them.

    Args:
        model: Any.
        pooling: As in `Questions.embed`.
        dims: As in `Questions.embed`.
    """

    def embed(texts: Sequence[str], prompt: str) -> np.ndarray:
        wish: Mapping[str, Any] = {"pooling": pooling, "dims": dims, "prompt": prompt or None}
        if not len(texts):
            return model.embed([], **wish)
        found: np.ndarray | None = None
        with progress("Vectors", len(texts), "texts") as job:
            for place, vector in enumerate(model.embed(iter(texts), **wish)):
                if found is None:
                    found = np.empty((len(texts), len(vector)), dtype=np.float32)
                found[place] = vector
                job.advance()
        assert found is not None
        return found

    return embed
