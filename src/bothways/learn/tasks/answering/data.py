"""Questions with their answers, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bothways.chance import generator
from bothways.learn.tasks.labelled import digest
from bothways.text.questions import Question

NO_ANSWER = "(no answer)"


@dataclass(frozen=True)
class Questions:
    """Questions about texts.

    Attributes:
        rows: The questions.
        name: Where they came from, for messages.
    """

    rows: list[Question]
    name: str

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> Questions:
        """Some of them, in the order given."""
        return Questions([self.rows[place] for place in places], name)

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of all that is read and learned."""
        told = [str((row.answers, row.places)) for row in self.rows]
        found = digest((self.questions, self.contexts, told))
        return {"name": self.name, "examples": len(self), "sha256": found}

    def inputs(self) -> list[str]:
        """Each question above its context, as one text."""
        return [f"{row.question}\n{row.context}" for row in self.rows]

    def groups(self) -> list[str]:
        """The contexts: questions about one text are never on both sides of a split."""
        return self.contexts

    def truths(self) -> list[str]:
        """The first right answer of each."""
        return [row.answers[0] if row.answers else NO_ANSWER for row in self.rows]

    def class_counts(self) -> dict[str, int]:
        """Nothing: answers are no classes."""
        return {}

    @property
    def questions(self) -> list[str]:
        """The questions themselves."""
        return [row.question for row in self.rows]

    @property
    def contexts(self) -> list[str]:
        """The text of each question."""
        return [row.context for row in self.rows]

    @property
    def unanswerable(self) -> int:
        """How many have no answer."""
        return sum(not row.answers for row in self.rows)


def split_by_context(data: Questions, share: float, seed: int) -> tuple[Questions, Questions]:
    """Holds out questions so that no context is on both sides, as long as there are two; the same for the same seed.

    Args:
        data: At least two questions.
        share: Of the questions that are held out, about.
        seed: Of the choice.
    """
    contexts = data.contexts if len(set(data.contexts)) > 1 else data.questions
    number = {text: place for place, text in enumerate(dict.fromkeys(contexts))}
    groups = np.array([number[text] for text in contexts])
    order = generator("split", seed).permutation(len(number))
    before = np.cumsum(np.bincount(groups)[order])
    count = max(1, int(np.searchsorted(before, share * len(data), side="right")))
    held = np.isin(groups, order[: min(count, max(1, len(number) - 1))])
    kept = data.take(np.flatnonzero(~held), data.name)
    return kept, data.take(np.flatnonzero(held), f"the part of {data.name} held out")
