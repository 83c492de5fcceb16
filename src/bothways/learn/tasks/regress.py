"""Scores of texts and of pairs of texts, such as how similar two sentences are (Devlin et al. 2018, section 4.1).

Scores are learned with mean 0 and deviation 1, whatever their range. Afterwards the range is folded into the last
linear layer, so that the saved weights give scores in their own units to whoever computes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bothways.errors import BothwaysError
from bothways.learn.baselines import tfidf_ridge
from bothways.learn.tasks.classify import check_head, shaped_head
from bothways.learn.tasks.judge import in_order, judge_scores
from bothways.learn.tasks.labelled import LabelledTexts, Reading, read_scored
from bothways.learn.tasks.labels import stratified_split
from bothways.learn.tasks.learning import ClassExamples, LearnClasses, encoded_examples
from bothways.learn.tasks.protocol import Examined
from bothways.model.config import HeadConfig
from bothways.run.model import Model
from bothways.text.markers import check_markers


@dataclass(frozen=True, kw_only=True)
class Regress:
    """Texts, or pairs of texts, to numbers of any range.

    Attributes:
        text: The column of the text; None infers it.
        text_pair: The column of the second text, for pairs.
        label: The column of the score; None infers it.
        markers: What is put around entities, as for `Classify`.
        reads: What the head reads: the ``"pooled"`` output, the ``"first"`` token or the ``"mean"`` of all; None: as
            the family has it.
        hidden: ``"none"`` for one linear layer, ``"gelu"`` for two with GELU and dropout; None: as the family has it.
        symmetric: Whether the order of a pair is to mean nothing: both are learned, and the score is their mean.
    """

    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    markers: tuple[str, ...] | None = None
    reads: str | None = None
    hidden: str | None = None
    symmetric: bool = False
    name = "regress"
    metrics = ("spearman", "pearson", "mse", "mae")

    def __post_init__(self) -> None:
        check_head(self.reads, self.hidden)
        object.__setattr__(self, "markers", check_markers(self.markers))

    def read(self, source: Any) -> LabelledTexts:
        """Rows of a text, perhaps a second text, and a score."""
        how = Reading(text=self.text, text_pair=self.text_pair, label=self.label, markers=self.markers)
        data = read_scored(source, how)
        if self.symmetric and data.pairs is None:
            raise BothwaysError(f"symmetric is about pairs of texts, and {data.name} holds single ones")
        return data

    def split(self, data: LabelledTexts, share: float, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
        """Every tenth of the scores keeps its share on both sides."""
        return stratified_split(data, share, seed)

    def heads(self, start: Model, train: LabelledTexts) -> list[HeadConfig]:
        """A head of one number."""
        scores = _scores(train)
        if not len(scores):
            raise BothwaysError(f"{train.name} holds no examples")
        if scores.min() == scores.max():
            raise BothwaysError(f"{train.name} has the score {scores[0]:g} everywhere; there is nothing to learn from")
        return [shaped_head(start, self.reads, self.hidden, labels=("score",), problem="scores")]

    def begin(self, model: Model, train: LabelledTexts) -> str:
        """Notes mean and deviation of the scores, and how rows are to be read again; says the range."""
        scores = _scores(train)
        scale = [float(scores.mean()), float(scores.std())]
        known: dict[str, Any] = {"inputs": train.kind, "scale": scale, "reading": {}}
        if self.markers:
            known["reading"]["markers"] = list(self.markers)
        model.decoding["classify"] = known | ({"symmetric": True} if self.symmetric else {})
        return f"scores from {scores.min():g} to {scores.max():g}, on average {scores.mean():.3g}"

    def examples(self, model: Model, data: LabelledTexts, seed: int = 0) -> ClassExamples:
        """One a text, or several where long ones are read in windows; scores with mean 0 and deviation 1."""
        mean, deviation = model.decoding["classify"].get("scale", (0.0, 1.0))
        right = ((_scores(data) - mean) / deviation).astype(np.float32)
        return encoded_examples(model, data, right, self.symmetric)

    def numbers(self, examples: ClassExamples, seed: int) -> None:
        """Each once."""

    def objective(self, model: Model, train: LabelledTexts, seed: int = 0) -> LearnClasses:
        """The squared difference."""
        return LearnClasses(model.mark, "scores")

    def finish(self, model: Model, dev: LabelledTexts) -> str:
        """Folds mean and deviation of the scores into the last layer."""
        mean, deviation = model.decoding["classify"].pop("scale", (0.0, 1.0))
        output: Any = model.heads["classify"].output
        with torch.no_grad():
            output.weight.mul_(deviation)
            output.bias.mul_(deviation).add_(mean)
        return ""

    def examine(self, model: Model, data: LabelledTexts) -> Examined:
        """Spearman's and Pearson's correlation, squared and absolute differences."""
        return judge_scores(data, _scores(data), model.score(data.texts, data.pairs))

    def pooled(self, data: LabelledTexts, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        return judge_scores(data, _scores(data), in_order([np.asarray(part.guesses) for part in parts], places))

    def baselines(self, train: LabelledTexts, test: LabelledTexts) -> dict[str, Examined]:
        """The mean score, and TF-IDF with ridge regression."""
        learned, right = _scores(train), _scores(test)
        guesses = {
            "mean": np.full(len(test), learned.mean()),
            "TF-IDF + ridge regression": tfidf_ridge(train.inputs(), learned, test.inputs()),
        }
        return {name: judge_scores(test, right, guess) for name, guess in guesses.items()}


def _scores(data: LabelledTexts) -> np.ndarray:
    """``(N,)`` float64."""
    try:
        return np.array(data.labels, dtype=np.float64)
    except (TypeError, ValueError):
        raise BothwaysError(f"{data.name} holds classes, not scores") from None
