"""Late interaction: a vector a token, compared token by token (ColBERT, Khattab and Zaharia 2020).

What is saved opens in PyLate, and in `sentence-transformers` as a `MultiVectorEncoder`, with the same scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.learn.matching.late import LateExamples, LateMatcher
from bothways.learn.matching.lesson import LearnMatches
from bothways.learn.tasks.matching import Matching
from bothways.learn.tasks.protocol import Examined
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.judge import guesses_of, judged
from bothways.model.config import HeadConfig
from bothways.run.late_recipe import Expansion, LateRecipe
from bothways.run.model import Model

_MARKERS = ("[unused0]", "[unused1]")
"""What ColBERT puts before queries and texts, where the vocabulary has it."""


@dataclass(frozen=True, kw_only=True)
class Late(Matching):
    """Queries and texts to a vector a token; the best products are summed. It has settings beside those of `Matching`.

    Attributes:
        width: How many values a token's vector has.
        query_length: The most tokens of a query.
        expand: Whether queries are filled up to it with mask tokens, which find words of their own: ``"none"``,
            ``"seen"`` by the other tokens, ``"unseen"`` as published models have it; None: as the base, else ``seen``.
    """

    width: int = 128
    query_length: int = 32
    expand: Expansion | None = None
    name = "late"

    def __post_init__(self) -> None:
        super().__post_init__()
        known = get_args(Expansion)
        if self.expand not in (None, *known):
            raise BothwaysError(
                f"expand must be {' or '.join(known)}, not {self.expand!r}{closest(str(self.expand), known)}"
            )
        for name, least in (("width", 1), ("query_length", 4)):
            if getattr(self, name) < least:
                raise BothwaysError(f"{name} must be {least} or more, not {getattr(self, name)!r}")

    def heads(self, start: Model, train: VectorData) -> list[HeadConfig]:
        """The base's layer of token vectors, or a new one."""
        return [start.head_configs.get("late") or HeadConfig(kind="late", outputs=self.width, bias=False, dropout=0.0)]

    def carry(self, start: Model, model: Model) -> None:
        """What the base knows of late interaction."""
        if "late" in start.heads:
            model.heads["late"].load_state_dict(start.heads["late"].state_dict())
            model.decoding["late"] = dict(start.decoding["late"])

    def begin(self, model: Model, train: VectorData) -> str:
        """Notes how texts are read."""
        if "late" not in model.decoding:
            known = [marker if model.tokenizer.backend.token_to_id(marker) is not None else "" for marker in _MARKERS]
            recipe = LateRecipe(query_marker=known[0], document_marker=known[1])
            model.decoding["late"] = recipe.to_dict() | {"query_length": self.query_length}
        if self.expand is not None:
            model.decoding["late"]["expand"] = self.expand
        return f"{len(train.texts):,} texts in {len(train):,} groups"

    def examples(self, model: Model, data: VectorData, seed: int = 0) -> LateExamples:
        """Encoded groups."""
        return LateExamples(model, data, _recipe(model))

    def objective(self, model: Model, train: VectorData, seed: int = 0) -> LearnMatches:
        """In-batch negatives."""
        recipe = _recipe(model)
        mask_id = -1 if recipe.expand == "none" else model.tokenizer.mask_id
        return LearnMatches(train, LateMatcher(recipe, recipe.skipped(model.tokenizer), mask_id))

    def examine(self, model: Model, data: VectorData) -> Examined:
        """Ranks texts by the sums of best products."""
        return judged(data, guesses_of(data, lambda texts: _Compared(model, texts)))


def _recipe(model: Model) -> LateRecipe:
    return LateRecipe.of(model.decoding["late"])


class _Compared:
    """Texts that are compared as vectors are: rows are taken, and products of rows with rows asked for.

    Args:
        model: Who compares them.
        texts: N texts.
        known: Vectors of tokens by text, made once.
    """

    def __init__(self, model: Model, texts: Sequence[str], known: dict[str, np.ndarray] | None = None) -> None:
        self._model, self._texts, self._known = model, list(texts), {} if known is None else known

    def __getitem__(self, places: np.ndarray) -> _Compared:
        return _Compared(self._model, [self._texts[place] for place in places], self._known)

    @property
    def T(self) -> _Compared:  # noqa: N802 (NumPy's name)
        return self

    def __matmul__(self, other: _Compared) -> np.ndarray:
        new = [text for text in dict.fromkeys(other._texts) if text not in self._known]
        self._known |= dict(zip(new, self._model.token_vectors(new), strict=True))
        asked = self._model.token_vectors(self._texts, query=True)
        return self._model.maxsim(asked, [self._known[text] for text in other._texts])
