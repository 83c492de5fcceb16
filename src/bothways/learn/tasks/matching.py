"""What the tasks have in common in which queries look for the texts that answer them: `Sparse` and `Late`.

What they learn from, how it is parted and judged, and what they are measured beside, is that of `Embed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from bothways.learn.stream import Stream
from bothways.learn.tasks.embed import Embed
from bothways.learn.tasks.protocol import Examined
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.examples import Apart, GroupExamples
from bothways.learn.vectors.judge import METRICS
from bothways.learn.vectors.step import refuse
from bothways.run.model import Model

NEEDS = "pairs of texts that belong together, with or without negatives"
FORMS = ("pairs", "triplets")


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Groups of a query, a text that answers it, and perhaps others that do not.

    Attributes:
        text: The column of queries; None infers it, and the others.
        text_pair: The column of texts that answer them.
        negatives: Columns of texts that do not.
    """

    text: str | None = None
    text_pair: str | None = None
    negatives: tuple[str, ...] | None = None
    name: ClassVar[str]
    metrics = METRICS["pairs"]

    def __post_init__(self) -> None:
        object.__setattr__(self, "negatives", tuple(self.negatives) if self.negatives else None)

    def read(self, source: Any) -> VectorData:
        """Pairs, or pairs with texts that do not answer.

        Raises:
            BothwaysError: They are something else: what is needed, and what there is.
        """
        data = Embed(text=self.text, text_pair=self.text_pair, negatives=self.negatives).read(source)
        if data.form not in FORMS:
            raise refuse(self.name, NEEDS, data)
        return data

    def split(self, data: VectorData, share: float, seed: int) -> tuple[VectorData, VectorData]:
        """Groups by chance; those with the same query stay on one side."""
        return Embed().split(data, share, seed)

    def numbers(self, examples: GroupExamples, seed: int) -> None:
        """Each group once."""

    def stream(self, examples: GroupExamples, finish: Any, **settings: Any) -> Stream:
        """Steps that are never parted and hold no text twice."""
        return Apart(examples, finish, **settings)

    def finish(self, model: Model, dev: VectorData) -> str:
        """Nothing is fitted."""
        return ""

    def pooled(self, data: VectorData, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
        """Judges what was said of parts of some data as if it had been said of all at once."""
        return Embed().pooled(data, parts, places)

    def baselines(self, train: VectorData, test: VectorData) -> dict[str, Examined]:
        """Vectors of words, weighted by TF-IDF."""
        return Embed().baselines(train, test)
