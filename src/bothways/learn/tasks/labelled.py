"""Labelled texts: what tasks over whole texts and pairs of texts learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.text.columns import infer_columns, read_examples
from bothways.text.rows import read_rows


def as_one(texts: list[str], pairs: list[str] | None) -> list[str]:
    """Each text, or pair of texts, as one text."""
    if pairs is None:
        return list(texts)
    return [f"{first}\n{second}" for first, second in zip(texts, pairs, strict=True)]


def digest(columns: Sequence[Iterable[str]]) -> str:
    """A hash of rows of texts."""
    found = hashlib.sha256()
    for row in zip(*columns, strict=True):
        found.update("\0".join((*row, "")).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


@dataclass(frozen=True)
class LabelledTexts:
    """Texts or pairs of texts with the names of their classes.

    Attributes:
        texts: The texts.
        pairs: The second texts, or None.
        labels: The name of each text's class.
        name: Where they came from, for messages.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: list[str]
    name: str

    def __len__(self) -> int:
        return len(self.texts)

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of texts and labels, for the record of a run."""
        found = digest((self.texts, self.pairs or self.texts, self.labels))
        return {"name": self.name, "examples": len(self), "sha256": found}

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> LabelledTexts:
        """Some of them, in the order given."""
        return LabelledTexts(
            [self.texts[place] for place in places],
            None if self.pairs is None else [self.pairs[place] for place in places],
            [self.labels[place] for place in places],
            name,
        )

    def inputs(self) -> list[str]:
        """Each text, or pair, as one text."""
        return as_one(self.texts, self.pairs)

    def truths(self) -> list[str]:
        """The names of the classes."""
        return list(self.labels)


def read_labelled(source: Any, text: str | None, text_pair: str | None, label: str | None) -> LabelledTexts:
    """Reads labelled rows into memory.

    Raises:
        BothwaysError: A column is absent, or a row has no text or no label.
    """
    if isinstance(source, LabelledTexts):
        return source
    rows = read_rows(source)
    columns = infer_columns(rows, text, text_pair, label)
    examples = list(read_examples(rows, columns))
    pairs = [example.text_pair or "" for example in examples] if columns.text_pair else None
    return LabelledTexts(
        [example.text for example in examples], pairs, [str(example.label) for example in examples], rows.name
    )
