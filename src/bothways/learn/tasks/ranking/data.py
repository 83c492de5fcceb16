"""Queries with their texts and how relevant each is, in memory.

Shapes: Q queries, P texts of all queries together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.tasks.labelled import LabelledTexts, digest, exact
from bothways.text.encoded import gather_index
from bothways.text.kept import Texts
from bothways.text.question_files import name_of
from bothways.text.rankings import Ranking, read_rankings


@dataclass(frozen=True)
class Rankings:
    """Q queries; an example is a query with all its texts, so that no query stands on both sides of a split.

    Attributes:
        queries: The Q queries.
        texts: The P texts, query by query.
        relevance: ``(P,)`` float64, how well each answers its query.
        starts: ``(Q + 1,)`` where the texts of each query begin.
        name: Where they came from, for messages.
        where: Where each of the P texts stands there.
    """

    queries: Texts
    texts: Texts
    relevance: np.ndarray
    starts: np.ndarray
    name: str
    where: Texts = field(repr=False)

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def counts(self) -> np.ndarray:
        """``(Q,)`` how many texts each query has."""
        return np.diff(self.starts)

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> Rankings:
        """Some queries with their texts, in the order given."""
        places = np.asarray(places, dtype=np.int64)
        own = self.texts_of(places)
        starts = np.concatenate(([0], np.cumsum(self.counts[places])))
        return Rankings(
            self.queries.take(places), self.texts.take(own), self.relevance[own], starts, name, self.where.take(own)
        )

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of all that is read and learned."""
        pairs = self.pairs()
        found = digest((pairs.texts, pairs.pairs or (), [exact(each) for each in self.relevance]))
        return {"name": self.name, "examples": len(self), "texts": len(self.texts), "sha256": found}

    def inputs(self) -> list[str]:
        """Each query above its texts, as one text."""
        return ["\n".join((query, *self.texts[own])) for query, own in zip(self.queries, self.slices(), strict=True)]

    def truths(self) -> list[str]:
        """How relevant the texts of each query are."""
        return [", ".join(f"{each:g}" for each in self.relevance[own]) for own in self.slices()]

    def class_counts(self) -> dict[str, int]:
        """Nothing: relevance is no class of a query."""
        return {}

    def slices(self) -> list[slice]:
        """For each query where its texts lie."""
        return [slice(*ends) for ends in zip(self.starts[:-1].tolist(), self.starts[1:].tolist(), strict=True)]

    def texts_of(self, places: np.ndarray) -> np.ndarray:
        """The places of the texts of some queries."""
        return gather_index(self.starts[places], self.counts[places])

    def pairs(self) -> LabelledTexts:
        """The P pairs of a query and a text, with their relevance."""
        repeated = self.queries.take(np.repeat(np.arange(len(self)), self.counts))
        return LabelledTexts(repeated, self.texts, self.relevance.tolist(), self.name, self.where)

    def split(self, share: float, seed: int) -> tuple[Rankings, Rankings]:
        """Holds out a share of the queries, by chance."""
        held = np.sort(generator("split", seed).permutation(len(self))[: max(1, round(share * len(self)))])
        kept = np.setdiff1d(np.arange(len(self)), held)
        return self.take(kept, self.name), self.take(held, f"the part of {self.name} held out")


def read(source: Any, text: str | None = None, text_pair: str | None = None, label: str | None = None) -> Rankings:
    """Reads labelled rankings; rows of the same query become one example, at the place of the first.

    Args:
        source: As `read_rankings` takes it.
        text: The column of queries.
        text_pair: The column of texts.
        label: The column of labels.

    Raises:
        BothwaysError: A row does not do, or there is none; the sentence says where.
    """
    if isinstance(source, Rankings):
        return source
    data = gathered(read_rankings(source, text, text_pair, label), name_of(source))
    if not len(data):
        raise BothwaysError(f"{data.name} holds no examples")
    return data


def gathered(rows: Iterable[Ranking], name: str) -> Rankings:
    """Rows put together by their queries."""
    numbers: dict[str, int] = {}
    queries, texts, where = Texts(), Texts(), Texts()
    owners: list[int] = []
    relevance: list[float] = []
    for row in rows:
        if row.query not in numbers:
            numbers[row.query] = len(numbers)
            queries.append(row.query)
        for text, value in zip(row.texts, row.relevance, strict=True):
            texts.append(text)
            where.append(row.where)
            owners.append(numbers[row.query])
            relevance.append(value)
    order = np.argsort(np.array(owners, dtype=np.int64), kind="stable")
    counts = np.bincount(np.array(owners, dtype=np.int64), minlength=len(numbers))
    starts = np.concatenate(([0], np.cumsum(counts)))
    return Rankings(
        queries, texts.take(order), np.array(relevance, dtype=np.float64)[order], starts, name, where.take(order)
    )
