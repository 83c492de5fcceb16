"""Retrieval: documents are looked for by their vectors, exactly, and scored by `trec_eval` itself.

Shapes: N queries, M documents, K best matches of a query, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bothways.errors import need
from bothways.learn.measures.collection import Collection
from bothways.learn.measures.measured import Measured, of_means
from bothways.run.similarity import nearest

METRICS = {
    "ndcg@10": "ndcg_cut_10",
    "map": "map",
    "mrr@10": "recip_rank",
    "recall@1": "recall_1",
    "recall@10": "recall_10",
    "recall@100": "recall_100",
}
"""Our names and those of `trec_eval`."""
_KEPT = 1000
"""Documents of a query that are scored, as `trec_eval` has it."""

Vectors = Callable[[Sequence[str], str], np.ndarray]
"""From texts and the name of a prompt to their vectors ``(texts, E)``."""


def measure_retrieval(embed: Vectors, collection: Collection, likeness: str) -> Measured:
    """Each query looks for its documents among all; one of the query's own id is passed over, unless it is judged.

    Args:
        embed: Makes the vectors.
        collection: What is searched.
        likeness: How vectors are compared, a name of `bothways.run.similarity.SIMILARITIES`.
    """
    documents_ME = embed(collection.documents, "document")
    queries_NE = embed(collection.queries, "query")
    scores_NK, places_NK = nearest(queries_NE, documents_ME, _KEPT + 1, likeness)
    found = {}
    for query, places, scores in zip(collection.query_ids, places_NK, scores_NK, strict=True):
        itself = None if query in collection.relevance.get(query, ()) else query  # as BEIR has it: no hit, nor a miss
        named = [(collection.document_ids[place], float(score)) for place, score in zip(places, scores, strict=True)]
        found[query] = dict([each for each in named if each[0] != itself][:_KEPT])
    values = retrieval_values(collection.relevance, found)
    return of_means(values, {"documents": len(collection.documents)})


def retrieval_values(
    relevance: Mapping[str, Mapping[str, int]], found: Mapping[str, Mapping[str, float]]
) -> dict[str, np.ndarray]:
    """What `trec_eval` says of each query, in the order of `relevance`.

    Args:
        relevance: For each query how relevant documents are, by their ids.
        found: For each query documents with their scores; a query without any counts as 0.

    Returns:
        By name of `METRICS` ``(N,)`` float64: nDCG@10 (gains as they are, discounted by log2 of the rank + 1), average
        precision over all that was found, the reciprocal rank of the first relevant document among the first ten, and
        the share of the relevant documents among the first 1, 10 and 100.

    Raises:
        BothwaysError: `pytrec_eval` is not installed.
    """
    trec = need("pytrec_eval", "evaluation", "Scoring retrieval")
    judged = {query: dict(documents) for query, documents in relevance.items()}
    asked = {"ndcg_cut.10", "map", "recip_rank", "recall.1,10,100"}
    scored = trec.RelevanceEvaluator(judged, asked).evaluate({query: dict(each) for query, each in found.items()})
    values = {
        name: np.array([scored.get(query, {}).get(theirs, 0.0) for query in relevance])
        for name, theirs in METRICS.items()
    }
    first_ten = values["mrr@10"] >= 0.1 - 1e-6
    return values | {"mrr@10": np.where(first_ten, values["mrr@10"], 0.0)}
