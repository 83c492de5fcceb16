"""What the objectives of tasks share that guess among places, tags or choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Key, Targets
from bothways.learn.tasks.distances import symmetric_divergence

NEVER = -1e30
"""The logit of what cannot be guessed: so low that its share is exactly 0, yet a number."""


@dataclass(frozen=True)
class Guessing:
    """An objective of one right guess among several, by the head that bears its name; `TaskObjective` says the rest.

    Attributes:
        mark: Marks the tokens of a batch that are global while a head is at work, as `Model.mark` does.
    """

    mark: Callable[[TokenBatch, str], TokenBatch]
    name = ""
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """The batch as the head wants it, and what is right beside it."""
        return self.mark(batch, self.name), self.targets(batch, examples)

    def targets(self, batch: TokenBatch, examples: list[Sequence[Any]]) -> Targets:
        """What is right for a batch's examples, which stand in the order of its sequences."""
        raise NotImplementedError

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """The symmetric divergence."""
        return symmetric_divergence(one, other)


def sequences_of_examples(batch: TokenBatch, examples: list[Sequence[Any]]) -> tuple[np.ndarray, list[Sequence[Any]]]:
    """Which sequences of a batch belong to one example, however they were put in order of length.

    Args:
        batch: Of S sequences.
        examples: ``S``, for each sequence the example that it is of; its first part are its own sequences.

    Returns:
        ``(G, C)`` the place in the batch of each sequence of each of G examples, -1 where one has fewer than C; and
        these examples.
    """
    given = np.argsort(batch.rows)  # the sequences as the examples have them, example by example
    places: list[np.ndarray] = []
    found = []
    begin = 0
    while begin < len(given):
        found.append(examples[given[begin]])
        places.append(given[begin : begin + len(found[-1][0])])
        begin += len(found[-1][0])
    table = np.full((len(places), max(map(len, places))), -1, dtype=np.int64)
    for row, own in zip(table, places, strict=True):
        row[: len(own)] = own
    return table, found
