"""Sparse vectors over the vocabulary, for search through an inverted index (SPLADE, Formal et al. 2021).

What is saved is a masked-token model that `sentence-transformers` opens as a `SparseEncoder` with the same vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.learn.matching.lesson import LearnMatches
from bothways.learn.matching.sparse import SparseMatcher
from bothways.learn.tasks.matching import Matching
from bothways.learn.tasks.protocol import Examined
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.examples import GroupExamples
from bothways.learn.vectors.judge import guesses_of, judged
from bothways.model.config import HeadConfig
from bothways.model.heads.sparse import WAYS
from bothways.run.model import Model


@dataclass(frozen=True, kw_only=True)
class Sparse(Matching):
    """Queries and texts to sparse vectors, whose products are compared; with settings beside those of `Matching`.

    Attributes:
        way: How tokens become a vector: ``"max"``, ``"sum"``, ``"max_log"`` or ``"sum_log"``
            (`bothways.model.heads.sparse.WAYS`).
        query_flops: What sparseness of queries counts beside the loss.
        document_flops: What that of the other texts counts.
    """

    way: str = "max"
    query_flops: float = 5e-5
    document_flops: float = 3e-5
    name = "sparse"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.way not in WAYS:
            raise BothwaysError(f"there is no way {self.way!r}; there are {', '.join(WAYS)}{closest(self.way, WAYS)}")
        for name in ("query_flops", "document_flops"):
            if getattr(self, name) < 0:
                raise BothwaysError(f"{name} must be 0 or more, not {getattr(self, name)!r}")

    def heads(self, start: Model, train: VectorData) -> list[HeadConfig]:
        """The base's masked-token head.

        Raises:
            BothwaysError: It has none, or one with another decoder behind it.
        """
        head = start.head_configs.get("mlm")
        if head is None or head.decoder != "plain":
            has = "has none" if head is None else "guesses words with another decoder behind it"
            raise BothwaysError(
                f"sparse vectors are made by the head that guesses masked words, and {start.name} {has}; start from "
                "a pre-trained model, such as one of bothways pretrain"
            )
        return [head]

    def carry(self, start: Model, model: Model) -> None:
        """What the base's head knows."""
        model.heads["mlm"].load_state_dict(start.heads["mlm"].state_dict())

    def begin(self, model: Model, train: VectorData) -> str:
        """Notes how vectors are made."""
        model.decoding["sparse"] = {"way": self.way}
        return f"{len(train.texts):,} texts in {len(train):,} groups"

    def examples(self, model: Model, data: VectorData, seed: int = 0) -> GroupExamples:
        """Encoded groups."""
        return GroupExamples(model, data)

    def objective(self, model: Model, train: VectorData, seed: int = 0) -> LearnMatches:
        """In-batch negatives and sparseness."""
        return LearnMatches(train, SparseMatcher(self.way, self.query_flops, self.document_flops))

    def examine(self, model: Model, data: VectorData) -> Examined:
        """Ranks texts by products; also says how many words a vector has."""
        vectors: list[Any] = []

        def embed(texts: Sequence[str]) -> Any:
            vectors.append(model.sparse_vectors(texts))
            return vectors[-1]

        found = judged(data, guesses_of(data, embed))
        found.scores["words"] = float(np.diff(vectors[-1].indptr).mean())
        return found
