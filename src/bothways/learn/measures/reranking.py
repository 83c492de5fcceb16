"""Reranking: the texts of a query are put in order by how alike they are to it."""

from __future__ import annotations

import numpy as np

from bothways.learn.measures.measured import Measured, of_examined
from bothways.learn.measures.retrieval import Vectors
from bothways.learn.tasks.ranking.data import Rankings
from bothways.learn.tasks.ranking.judge import judge_order
from bothways.run.similarity import paired


def measure_reranking(embed: Vectors, data: Rankings, likeness: str) -> Measured:
    """MAP, MRR@10 and nDCG@10 of the order that likeness gives."""
    queries = embed(list(data.queries), "query")
    texts = embed(list(data.texts), "document")
    examined = judge_order(data, paired(np.repeat(queries, data.counts, axis=0), texts, likeness))
    names = tuple(name for name in ("map", "ndcg@10", "mrr@10") if name in examined.scores)
    return of_examined(examined, names, {"texts": len(data.texts)})
