"""A store in memory, for small sets: every vector is compared, so what it finds is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from bothways.errors import need
from bothways.use.search.codes import int8, restored, signs
from bothways.use.search.filters import Filter, matches
from bothways.use.search.store import Held, Key, Passage, Scored, Shape

PIECE = 4096


class MemoryStore:
    """Passages in lists, vectors in one array; as `bothways.use.search.store.Store` says.

    Attributes:
        shape: What is kept of a passage.
    """

    def __init__(self, shape: Shape, settings: Mapping[str, Any] | None = None) -> None:
        self.shape = shape
        self._settings: dict[str, Any] = dict(settings or {})
        self._passages: list[Passage] = []
        self._vectors_NE = np.zeros((0, shape.width), dtype=np.float32)
        self._words: Any = None

    def settings(self) -> dict[str, Any]:
        """As `Store.settings` says."""
        return dict(self._settings)

    def remember(self, settings: Mapping[str, Any]) -> None:
        """As `Store.remember` says."""
        self._settings = dict(settings)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `Store.writing` says."""
        yield

    def digests(self, documents: Sequence[str]) -> dict[str, str]:
        """As `Store.digests` says."""
        wanted = set(documents)
        return {each.document: each.digest for each in self._passages if each.document in wanted}

    def replace(self, documents: Sequence[str], passages: Sequence[Passage], vectors: np.ndarray) -> None:
        """As `Store.replace` says."""
        gone = set(documents)
        stay = [place for place, each in enumerate(self._passages) if each.document not in gone]
        kept = vectors
        if self.shape.kind != "float32":
            codes = int8(vectors) if self.shape.kind == "int8" else signs(vectors)
            kept = restored(self.shape.kind, codes, self.shape.width)
        self._vectors_NE = np.concatenate([self._vectors_NE[stay], kept])
        self._passages = [*(self._passages[place] for place in stay), *passages]
        self._words = None

    def documents(self, where: Filter | None = None) -> Iterator[str]:
        """As `Store.documents` says."""
        yield from dict.fromkeys(self._passages[place].document for place in self._asked(where))

    def nearest(self, query: np.ndarray, count: int, where: Filter | None, *, exact: bool = False) -> list[Scored]:
        """As `Store.nearest` says."""
        asked = self._asked(where)
        vectors_NE = self._vectors_NE if len(asked) == len(self._passages) else self._vectors_NE[asked]
        if self.shape.similarity == "euclidean":
            scores_N = -np.linalg.norm(vectors_NE - query, axis=1)
        else:
            scores_N = vectors_NE @ query
        return self._best(scores_N, asked, count)

    def matching(self, words: str, count: int, where: Filter | None) -> list[Scored]:
        """As `Store.matching` says."""
        if not self._passages:
            return []
        if self._words is None:
            self._words = Words([each.text for each in self._passages], self.shape.language)
        asked = self._asked(where)
        scores_N = self._words.scores(words)[asked]
        return [each for each in self._best(scores_N, asked, count) if each.score > 0]

    def fetch(self, keys: Sequence[Key]) -> dict[Key, Passage]:
        """As `Store.fetch` says."""
        wanted = set(keys)
        found = {Key(each.document, each.number): each for each in self._passages}
        return {key: found[key] for key in wanted if key in found}

    def vectors(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """As `Store.vectors` says."""
        for begin in range(0, len(self._passages), PIECE):
            yield self._passages[begin : begin + PIECE], self._vectors_NE[begin : begin + PIECE]

    def tidy(self) -> None:
        """Nothing is to be done."""

    def held(self) -> Held:
        """As `Store.held` says."""
        size = self._vectors_NE.nbytes + sum(len(each.text) for each in self._passages)
        return Held(len({each.document for each in self._passages}), len(self._passages), size, 0, "memory")

    def _asked(self, where: Filter | None) -> np.ndarray:
        """Places of the passages that pass a filter."""
        if where is None:
            return np.arange(len(self._passages))
        passes = (matches(where, each.document, each.metadata) for each in self._passages)
        return np.flatnonzero(np.fromiter(passes, dtype=bool, count=len(self._passages)))

    def _best(self, scores_N: np.ndarray, places: np.ndarray, count: int) -> list[Scored]:
        best = np.argsort(-scores_N, kind="stable")[:count]
        found = [(self._passages[places[one]], float(scores_N[one])) for one in best]
        return [Scored(Key(each.document, each.number), score) for each, score in found]


class Words:
    """BM25 over texts in memory (Robertson and Zaragoza 2009), k1 = 1.2 and b = 0.75 as stores have it.

    Args:
        texts: The texts.
        language: Whose words are brought to their stems; ``"none"`` for none.
    """

    def __init__(self, texts: Sequence[str], language: str) -> None:
        self._library = need("bm25s", "search", "Search by words in memory")
        self._stem = None if language == "none" else need("Stemmer", "search", "Stemming").Stemmer(language)
        self._stop = "en" if language == "english" else []
        self._ranking = self._library.BM25(k1=1.2, b=0.75, method="lucene")
        tokens = self._library.tokenize(
            list(texts), stopwords=self._stop, stemmer=self._stem, show_progress=False, return_ids=False
        )
        self._count = len(texts)
        self._known = any(tokens)
        if self._known:
            self._ranking.index(tokens, show_progress=False)

    def scores(self, words: str) -> np.ndarray:
        """``(texts,)`` float32: how well each text fits the words."""
        asked = self._library.tokenize(
            [words], stopwords=self._stop, stemmer=self._stem, show_progress=False, return_ids=False
        )[0]
        if not self._known or not asked:
            return np.zeros(self._count, dtype=np.float32)
        return np.asarray(self._ranking.get_scores(asked), dtype=np.float32)
