"""What the training loop and its neighbours say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from torch import nn

from bothways.batch import TokenBatch

if TYPE_CHECKING:
    from bothways.learn.state import Taken

Item = tuple[TokenBatch, dict[str, np.ndarray]]
"""A batch and, beside it, its targets (host arrays)."""


@runtime_checkable
class Objective(Protocol):
    """What is learned: an objective over raw text, or the training side of a task.

    It may also count its `work`: from model and item to the multiplications of a step's products
    (`bothways.learn.utilisation`). Then the loop says what share of the machine it uses.
    """

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


class Observer(Protocol):
    """Looks on while a run trains, and adds lines of its own to the log. Nothing that is learned depends on it."""

    def opening(self, steps: int) -> dict[str, dict[str, Any]]:
        """The lines, by event, with which the log of a new run of so many steps begins."""
        ...

    def gradients(self, step: int, model: nn.Module) -> dict[str, float]:
        """What the line on a step says of the gradient besides; called before it is clipped.

        Steps that are evaluated but not logged are looked at too.
        """
        ...

    def evaluated(self, step: int) -> dict[str, dict[str, Any]]:
        """The lines, by event, that follow an evaluation; called as `Evaluation.run` is, and right after it."""
        ...


@dataclass
class StepEvent:
    """What a callback is told after each step.

    Attributes:
        step: Steps taken so far.
        steps: Steps of the whole run.
        values: Means of the step: ``"loss"``, ``"loss.mlm"``, ``"accuracy.mlm"``, and ``"rate"``, ``"gradient_norm"``.
        evaluation: What was measured after this step; empty if nothing was.
        model: The model.
        taken: The step's tokens, and where its time went.
    """

    step: int
    steps: int
    values: dict[str, float]
    evaluation: dict[str, float]
    model: nn.Module
    taken: Taken
    stopped: bool = field(default=False, init=False)

    def stop(self) -> None:
        """Asks the loop to end the run after this step, in good order."""
        self.stopped = True


Callback = Callable[[StepEvent], None]
