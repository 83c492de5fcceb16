"""Cross-encoders: query and text are read together, and one number says how well the text answers.

Nogueira and Cho 2019, "Passage Re-ranking with BERT". The saved model has one label, so that it opens as a
`CrossEncoder` of `sentence-transformers` with the same scores: between 0 and 1, or for ``loss="regression"`` in the
units of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.learn.tasks.choose import word_overlap
from bothways.learn.tasks.classify import check_head, shaped_head
from bothways.learn.tasks.learning import ClassExamples, LearnClasses, encoded_examples
from bothways.learn.tasks.protocol import Examined
from bothways.learn.tasks.ranking.data import Rankings, read
from bothways.learn.tasks.ranking.examples import QueryExamples
from bothways.learn.tasks.ranking.judge import BINARY, ORDER, SCORES, judge_binary, judge_numbers, judge_order
from bothways.learn.tasks.ranking.losses import LOSSES
from bothways.learn.tasks.ranking.objective import LearnRanking
from bothways.learn.tasks.regress import Regress
from bothways.model.config import HeadConfig
from bothways.run.answering.rerank import pair_scores
from bothways.run.model import Model
from bothways.run.numbers import sigmoid

RERANK_LOSSES = ("binary", "regression", *LOSSES)


@dataclass(frozen=True, kw_only=True)
class Rerank:
    """Queries and texts to one number a pair.

    Attributes:
        loss: ``"binary"``: each pair by itself is relevant or not; ``"regression"``: it has a score; or the texts of a
            query are compared: ``"softmax"``, ``"listnet"``, ``"lambda"``
            (`bothways.learn.tasks.ranking.losses`).
        list_size: The most texts of a query that are compared in a step; others are drawn anew in every epoch.
        text: The column of queries; None takes a usual name.
        text_pair: The column of texts, or of lists of texts; None takes a usual name.
        label: The column of labels or scores; None takes a usual name.
        reads: What the head reads, as for `Regress`.
        hidden: Its hidden layer, as for `Regress`.
    """

    loss: str = "binary"
    list_size: int = 8
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    reads: str | None = None
    hidden: str | None = None
    name = "rerank"

    def __post_init__(self) -> None:
        check_head(self.reads, self.hidden)
        if self.loss not in RERANK_LOSSES:
            known = ", ".join(RERANK_LOSSES)
            raise BothwaysError(f"there is no loss {self.loss!r}; there are {known}{closest(self.loss, RERANK_LOSSES)}")
        if self.list_size < 2:
            raise BothwaysError(f"list_size must be 2 or more, not {self.list_size!r}: texts are compared")

    @property
    def metrics(self) -> tuple[str, ...]:
        """What suits the loss; the first chooses the best weights."""
        return {"binary": BINARY, "regression": SCORES}.get(self.loss, ORDER)

    def read(self, source: Any) -> Rankings:
        """Queries with texts, in any form that `read_rankings` takes, checked for what the loss needs.

        Raises:
            BothwaysError: They are not what the loss needs: what it needs, and where they are not.
        """
        data = read(source, self.text, self.text_pair, self.label)
        if self.loss == "binary":
            _check_binary(data)
        elif self.loss == "lambda" and data.relevance.min() < 0:
            place = int(data.relevance.argmin())
            raise BothwaysError(
                f"{data.where[place]}: the relevance {data.relevance[place]:g} is below 0, and the loss lambda needs "
                "grades from 0 up, such as 0 to 3"
            )
        return data

    def split(self, data: Rankings, share: float, seed: int) -> tuple[Rankings, Rankings]:
        """Queries by chance, each with all its texts."""
        return data.split(share, seed)

    def heads(self, start: Model, train: Rankings) -> list[HeadConfig]:
        """A head of one number.

        Raises:
            BothwaysError: All texts are equally relevant, or no query has two that differ where they are compared.
        """
        relevance = train.relevance
        if relevance.min() == relevance.max():
            raise BothwaysError(
                f"{train.name} has the label {relevance[0]:g} everywhere; there is nothing to learn from: add texts "
                "that do not answer (bothways mine finds hard ones)"
            )
        if self.loss in LOSSES and not len(_comparable(train)):
            raise BothwaysError(
                f"the loss {self.loss} compares the texts of a query, and no query of {train.name} has two of "
                "different relevance; give several texts a query, or take --loss binary"
            )
        return [shaped_head(start, self.reads, self.hidden, labels=("score",), problem="scores")]

    def begin(self, model: Model, train: Rankings) -> str:
        """Says what was found; a regression also notes mean and deviation of the scores."""
        known: dict[str, Any] = {"inputs": "pairs", "reading": {"loss": self.loss}}
        if self.loss == "regression":
            known["scale"] = [float(train.relevance.mean()), float(train.relevance.std())]
        else:
            known["activation"] = "sigmoid"
        model.decoding["classify"] = known
        told = f"{len(train.texts):,} texts for {len(train):,} queries"
        if self.loss in LOSSES and (left := len(train) - len(_comparable(train))):
            return f"{told}, {left:,} of which have no two of different relevance and are left out"
        return f"{told}, from {train.relevance.min():g} to {train.relevance.max():g}"

    def examples(self, model: Model, data: Rankings, seed: int = 0) -> ClassExamples | QueryExamples:
        """One a pair, or where texts are compared one a query."""
        if self.loss in LOSSES:
            if model.truncation == "window":
                raise BothwaysError(f"the loss {self.loss} reads no text in windows: choose another --truncation")
            data = data.take(_comparable(data), data.name)
            encoded = encoded_examples(model, data.pairs(), data.relevance, False).encoded
            return QueryExamples(encoded, data.relevance, data.starts, self.list_size, seed)
        right = data.relevance
        if self.loss == "binary":
            right = (right > 0).astype(np.float32)[:, None]
        else:
            mean, deviation = model.decoding["classify"].get("scale", (0.0, 1.0))
            right = ((right - mean) / deviation).astype(np.float32)
        return encoded_examples(model, data.pairs(), right, False)

    def numbers(self, examples: Any, seed: int) -> None:
        """Each once."""

    def objective(self, model: Model, train: Rankings, seed: int = 0) -> LearnClasses | LearnRanking:
        """By pair, or by query."""
        if self.loss in LOSSES:
            return LearnRanking(model.mark, LOSSES[self.loss])
        return LearnClasses(model.mark, "several" if self.loss == "binary" else "scores")

    def finish(self, model: Model, dev: Rankings) -> str:
        """Folds mean and deviation of scores into the last layer."""
        return Regress().finish(model, dev.pairs()) if self.loss == "regression" else ""

    def examine(self, model: Model, data: Rankings) -> Examined:
        """Scores every pair."""
        pairs = data.pairs()
        return self._judged(data, pair_scores(model, pairs.texts, pairs.pairs or ()).raw)

    def pooled(self, data: Rankings, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        raw = np.empty(len(data.texts), dtype=np.float32)
        for part, own in zip(parts, places, strict=True):
            raw[data.texts_of(own)] = np.asarray(part.guesses)
        return self._judged(data, raw)

    def baselines(self, train: Rankings, test: Rankings) -> dict[str, Examined]:
        """How many of the query's words a text has."""
        pairs = test.pairs()
        shared = np.array([word_overlap(text, query) for query, text in zip(pairs.texts, test.texts, strict=True)])
        if self.loss == "binary":
            return {"word overlap": replace(judge_binary(test, shared), labels=(), truth=None, probabilities=None)}
        judge = judge_numbers if self.loss == "regression" else judge_order
        return {"word overlap": judge(test, shared)}

    def _judged(self, data: Rankings, raw: np.ndarray) -> Examined:
        if self.loss == "regression":
            return judge_numbers(data, raw)
        if self.loss == "binary":
            return replace(judge_binary(data, sigmoid(raw), raw), guesses=raw)
        return judge_order(data, raw)


def _check_binary(data: Rankings) -> None:
    odd = np.flatnonzero(~np.isin(data.relevance, (0.0, 1.0)))
    if len(odd):
        place = int(odd[0])
        raise BothwaysError(
            f"{data.where[place]}: the label {data.relevance[place]:g} is neither 0 nor 1, which the loss binary "
            "needs; take --loss regression for scores, or lambda for grades (in Python loss=...)"
        )


def _comparable(data: Rankings) -> np.ndarray:
    """The places of queries that have two texts of different relevance."""
    return np.array(
        [place for place, own in enumerate(data.slices()) if np.ptp(data.relevance[own]) > 0], dtype=np.int64
    )
