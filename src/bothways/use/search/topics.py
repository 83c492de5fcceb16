"""What the documents of an index are about: clusters of their vectors, told by the words that set them apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.chance import derived_seed, generator
from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.use.search.index import Index
from bothways.use.search.whole import Whole, read_whole

_TRIED = (3, 5, 8, 12, 20, 30, 50, 80)
"""How many topics are tried where nobody says how many."""
_SAMPLE = 2000
"""Documents by which a number of topics is judged."""
_WORD = r"(?u)\b[^\W\d_][\w'-]+\b"


@dataclass(frozen=True)
class Topic:
    """Documents that belong together.

    Attributes:
        number: From 0, the largest topic first.
        documents: How many there are.
        keywords: The words that set it apart from the other topics, best first.
        examples: Ids of the documents nearest to its middle.
        texts: How those begin.
    """

    number: int
    documents: int
    keywords: list[str]
    examples: list[str]
    texts: list[str]


@dataclass(frozen=True)
class Topics:
    """What the documents of an index are about.

    Attributes:
        topics: The largest first.
        documents: Ids of all N documents.
        numbers: ``(N,)`` the topic of each.
        similarities: ``(N,)`` its cosine with the middle of its topic.
    """

    topics: list[Topic]
    documents: list[str]
    numbers: np.ndarray
    similarities: np.ndarray


def cluster(index: Index, *, topics: int | None = None, keywords: int = 8, examples: int = 3, seed: int = 0) -> Topics:
    """Groups the documents of an index by k-means of their vectors, and finds keywords for each group.

    Args:
        index: The index.
        topics: How many groups; None tries some numbers and takes the one of the best silhouette (Rousseeuw 1987).
        keywords: How many words tell of a topic.
        examples: How many of its documents are shown.
        seed: Of the first middles.

    Raises:
        BothwaysError: The index holds fewer documents than topics, or a number makes no sense.
    """
    if keywords < 1 or examples < 0:
        raise BothwaysError(f"a topic is told by at least one keyword, not {keywords=} and {examples=}")
    whole = read_whole(index, letters=None)
    count = len(whole.documents)
    if topics is not None and not 2 <= topics <= count:
        raise BothwaysError(f"{count:,} documents make 2 to {count:,} topics, not {topics}")
    if count < 4:
        raise BothwaysError(f"{count} documents are too few for topics")
    numbers_N = group(whole.vectors, topics, seed)
    words = _keywords(whole.texts, numbers_N, keywords, index.store.shape.language)
    found, similarities = [], np.zeros(count, dtype=np.float32)
    for number in range(numbers_N.max() + 1):
        places = np.flatnonzero(numbers_N == number)
        middle = whole.vectors[places].mean(0)
        similarities[places] = whole.vectors[places] @ (middle / max(float(np.linalg.norm(middle)), 1e-12))
        found.append(_topic(whole, number, places, similarities[places], words[number], examples))
    return Topics(found, whole.documents, numbers_N, similarities)


def group(vectors_NE: np.ndarray, topics: int | None, seed: int) -> np.ndarray:
    """``(N,)``: the group of each vector, the largest group first; arguments as in `cluster`."""
    tried = [topics] if topics else [each for each in _TRIED if each <= len(vectors_NE) // 2] or [2]
    best, labels = -np.inf, np.zeros(len(vectors_NE), dtype=int)
    with progress("Grouping", len(tried), "groupings") as job:
        for each in tried:
            made = _k_means(vectors_NE, each, seed)
            worth = 0.0 if len(tried) == 1 else _silhouette(vectors_NE, made, seed)
            if worth > best:
                best, labels = worth, made
            job.advance()
    sizes = np.bincount(labels)
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    places = np.zeros(len(sizes), dtype=int)
    places[order] = np.arange(len(order))
    return np.asarray(places[labels])


def _k_means(vectors_NE: np.ndarray, count: int, seed: int) -> np.ndarray:
    from sklearn.cluster import MiniBatchKMeans

    drawn = derived_seed("topics", seed, count) % 2**32
    how = MiniBatchKMeans(count, random_state=drawn, n_init=3, batch_size=4096)
    return np.asarray(how.fit_predict(vectors_NE))


def _silhouette(vectors_NE: np.ndarray, labels: np.ndarray, seed: int) -> float:
    from sklearn.metrics import silhouette_score

    draw = generator("silhouette", seed)
    some = draw.permutation(len(labels))[:_SAMPLE]
    if len(set(labels[some])) < 2 or len(set(labels[some])) >= len(some):
        return -1.0
    return float(silhouette_score(vectors_NE[some], labels[some], metric="cosine"))


def _keywords(texts: Sequence[str], numbers: np.ndarray, count: int, language: str) -> list[list[str]]:
    """The words of each group by c-TF-IDF (Grootendorst 2022, "BERTopic", section 3.3).

    A word counts by how often it stands in the group, times ln(1 + A / f): A the mean number of words of a group, f how
    often the word stands in all.
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer

    stop: Any = "english" if language == "english" else None
    counter = CountVectorizer(stop_words=stop, token_pattern=_WORD, min_df=2 if len(texts) > 100 else 1, max_df=0.5)
    groups = int(numbers.max()) + 1
    try:
        counts = counter.fit_transform(texts)
    except ValueError:  # no word is left
        return [[] for _ in range(groups)]
    ones = np.ones(len(texts))
    member = sparse.csr_matrix((ones, (numbers, np.arange(len(texts)))), shape=(groups, len(texts)))
    by_group = (member @ counts).toarray().astype(np.float64)
    rarity = np.log1p(by_group.sum() / groups / np.maximum(by_group.sum(0), 1))
    share = by_group / np.maximum(by_group.sum(1, keepdims=True), 1)
    weights = share * rarity
    names = counter.get_feature_names_out()
    return [
        [str(names[place]) for place in np.argsort(-row, kind="stable")[:count] if row[place] > 0] for row in weights
    ]


def _topic(
    whole: Whole, number: int, places: np.ndarray, similarities: np.ndarray, words: list[str], examples: int
) -> Topic:
    nearest = places[np.argsort(-similarities, kind="stable")[:examples]]
    names = [whole.documents[place] for place in nearest]
    texts = [" ".join(whole.texts[place].split())[:200] for place in nearest]
    return Topic(number, len(places), words, names, texts)
