"""Pairs of texts: with scores, with labels, and translations that look for each other.

Shapes: N pairs, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.measures.measured import Measured, of_examined
from bothways.learn.measures.retrieval import Vectors
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.judge import judged
from bothways.run.similarity import nearest, paired


def measure_similarity(embed: Vectors, data: VectorData, likeness: str) -> Measured:
    """Semantic textual similarity (Cer et al. 2017): does likeness rank pairs as people score them?"""
    examined = judged(data, _likenesses(embed, data, likeness).tolist())
    return of_examined(examined, ("spearman", "pearson"))


def correlation(data: VectorData, a_NE: np.ndarray, b_NE: np.ndarray) -> float:
    """Spearman's correlation of scores, or labels, with the cosines of ``(N, E)`` vectors with ``(N, E)`` others."""
    scored = VectorData("scored", data.texts, data.starts, data.scores().tolist(), data.name, data.where)
    return float(judged(scored, paired(a_NE, b_NE).tolist()).scores["spearman"])


def measure_labelled(embed: Vectors, data: VectorData, likeness: str) -> Measured:
    """Pairs that belong together or do not: average precision, F1 and accuracy at the threshold that suits best."""
    examined = judged(data, _likenesses(embed, data, likeness).tolist())
    return of_examined(examined, ("ap", "f1", "accuracy"), {"threshold": float(examined.scores["threshold"])})


def _likenesses(embed: Vectors, data: VectorData, likeness: str) -> np.ndarray:
    """``(N,)`` how alike the two texts of each pair are; each text is embedded once."""
    _, first, number_S = np.unique(_exact(data.texts), return_index=True, return_inverse=True)
    vectors_UE = embed([data.texts[place] for place in first], "")
    one, other = number_S[data.starts[:-1]], number_S[data.starts[:-1] + 1]
    return paired(vectors_UE[one], vectors_UE[other], likeness)


def _exact(texts: Sequence[str]) -> np.ndarray:
    """``(S,)`` the same number for the same text."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(text, len(numbers)) for text in texts], dtype=np.int64)


def measure_bitext(embed: Vectors, data: VectorData, likeness: str) -> Measured:
    """Bitext mining: each text looks for its translation among all, and the other way round.

    Artetxe and Schwenk 2019, "Massively Multilingual Sentence Embeddings" (section 4.3, error rates on Tatoeba).
    """
    if len(data) < 2:
        raise BothwaysError(f"{data.name} holds {len(data)} pair; to look for a translation takes at least two")
    firsts, seconds = ([data.texts[place] for place in data.starts[:-1] + side] for side in (0, 1))
    a_NE, b_NE = embed(firsts, ""), embed(seconds, "")
    right_a, right_b = _exact(seconds), _exact(firsts)  # a translation that occurs twice is right wherever it stands
    hits = right_a[nearest(a_NE, b_NE, 1, likeness)[1][:, 0]] == right_a
    back = right_b[nearest(b_NE, a_NE, 1, likeness)[1][:, 0]] == right_b
    both = np.stack([hits, back], axis=1).mean(1)
    scores = {"accuracy": float(both.mean()), "forward": float(hits.mean()), "backward": float(back.mean())}
    return Measured(scores, len(data), lambda places: float(both[places].mean()))
