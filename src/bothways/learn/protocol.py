"""What the training loop and its neighbours say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import nn

from bothways.batch import TokenBatch

Item = tuple[TokenBatch, dict[str, np.ndarray]]
"""A batch and, beside it, its targets (host arrays)."""


class Objective(Protocol):
    """What is learned: an objective over raw text, or the training side of a task."""

    def counts(self, item: Item) -> dict[str, int]:
        """How many predictions of each kind an item holds, known before any forward pass."""
        ...

    def backward(self, model: Any, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Back-propagates the item's summed loss of each kind divided by the kind's total over the whole step.

        Args:
            model: What `train` was given.
            item: One of the step's items.
            totals: The step's predictions of each kind, at least 1. Dividing by them makes the gradient exact however
                unequal the items are.

        Returns:
            Sums over the item by name: ``"loss.mlm"``, ``"hits.mlm"``, ... The loop divides them by the totals.
        """
        ...

    def evaluate(self, model: Any, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        ...


class Stream(Protocol):
    """Where items come from. Its position is data, so that it can be saved; it may also say its `epoch`."""

    def next_step(self, progress: float) -> list[Item] | None:
        """The items (micro-batches) of the next optimizer step; None at the end.

        Args:
            progress: Share of the run's steps taken before this one, for what changes in the course of a run.
        """
        ...

    def state(self) -> dict[str, Any]:
        """The position, as JSON can hold it."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to a position, forward or back."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """How the model is measured while it trains.

    Attributes:
        names: The values that it yields, declared so that a wrong metric name is refused before the first step.
        run: Measures. The loop calls it with the model in evaluation mode, without gradients, in the run's precision.
    """

    names: tuple[str, ...]
    run: Callable[[], dict[str, float]]


@dataclass
class StepEvent:
    """What a callback is told after each step.

    Attributes:
        step: Steps taken so far.
        steps: Steps of the whole run.
        values: Means of the step: ``"loss"``, ``"loss.mlm"``, ``"accuracy.mlm"``, and ``"rate"``, ``"gradient_norm"``.
        evaluation: What was measured after this step; empty if nothing was.
        model: The model.
    """

    step: int
    steps: int
    values: dict[str, float]
    evaluation: dict[str, float]
    model: nn.Module
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Asks the loop to end the run after this step, in good order."""
        self.stopped = True


Callback = Callable[[StepEvent], None]
