"""What a task is: how its rows are read, what is learned from them, how answers are judged.

A task is a frozen value whose fields are its settings. What it learns from data (labels, thresholds) it puts into the
model (`HeadConfig.labels`, `Model.decoding`), so a saved model needs nothing else to answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, overload, runtime_checkable

import numpy as np
from torch import Tensor, nn

from bothways.learn.objectives.protocol import EncoderObjective, Forward, Targets
from bothways.learn.stream import Examples
from bothways.model.config import HeadConfig
from bothways.run.model import Model


@runtime_checkable
class Data(Protocol):
    """Labelled examples in memory.

    Those that belong together also say their ``groups()``, a name an example: cross-validation never parts them.
    """

    @property
    def name(self) -> str:
        """Where they came from, for messages."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> Self:
        """Some of them, in the order given; one may be taken several times."""
        ...

    def describe(self) -> dict[str, object]:
        """``name``, ``examples`` and ``sha256`` of all that is read and learned, for the record of a run."""
        ...

    def inputs(self) -> Sequence[str]:
        """What is read of each example as one text: copies are found by it, and lengths are told by it."""
        ...

    def truths(self) -> list[str]:
        """What is right for each example, as text."""
        ...

    def class_counts(self) -> dict[str, int]:
        """How often each class is right; empty where there are no classes."""
        ...


@dataclass(frozen=True)
class Mark:
    """A part of a text that is pointed at: ``text[start:end]``, in characters, under a name."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class Judged:
    """One example beside what a model said of it, as people read it.

    Attributes:
        text: What was read.
        truth: What is right.
        guess: What the model said.
        credit: From 0 (wrong) to 1 (right); of a regression minus the distance.
        confidence: The probability that the model gave its guess, or NaN.
        doubt: The probability that it gave to what is right, or NaN: low means confident disagreement.
        truth_marks: The parts of the text that are right, for tasks that point at parts.
        guess_marks: The parts that the model pointed at.
    """

    text: str
    truth: str
    guess: str
    credit: float
    confidence: float = float("nan")
    doubt: float = float("nan")
    truth_marks: tuple[Mark, ...] = ()
    guess_marks: tuple[Mark, ...] = ()


class Rows(Sequence[Judged]):
    """Judged examples that are put together as they are asked for, so that many need no memory.

    Args:
        count: N.
        make: From the place of one to the example.
    """

    def __init__(self, count: int, make: Callable[[int], Judged]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, place: int) -> Judged: ...
    @overload
    def __getitem__(self, place: slice) -> list[Judged]: ...
    def __getitem__(self, place: int | slice) -> Judged | list[Judged]:
        found = range(self._count)[place]
        return self._make(found) if isinstance(found, int) else [self._make(each) for each in found]


@dataclass(frozen=True)
class Examined:
    """What came of running a model on N labelled examples.

    Attributes:
        scores: Plain data: the task's metrics by name, and whatever else it tells (per class, confusion).
        rows: The N examples with what was said of them.
        resampled: From the places of examples, with repetition, to the task's metrics on those alone: what bootstrap
            intervals, strata and paired comparisons are made of. Cheap: it runs no model.
        labels: The names of the C classes, for tasks that have classes.
        truth: ``(M,)`` the right class of each decision (an example, or a word), else None.
        probabilities: ``(M, C)`` float32, for tasks with classes, else None.
        guesses: What was said, an entry an example (or a word), for tasks that judge it anew where it came in parts.
    """

    scores: dict[str, Any]
    rows: Sequence[Judged]
    resampled: Callable[[np.ndarray], dict[str, float]]
    labels: tuple[str, ...] = ()
    truth: np.ndarray | None = None
    probabilities: np.ndarray | None = field(default=None, repr=False)
    guesses: Sequence[Any] | np.ndarray | None = field(default=None, repr=False)


class TaskObjective(EncoderObjective, Protocol):
    """The training side of a task: an objective whose loss is made of logits, so that they can be compared.

    Regularisers (R-Drop, adversarial training) need two passes to agree: they call `logits` for each and `distance`.
    """

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(N, C)`` float32, a row a guess; `loss` is computed from them."""
        ...

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """How far apart two such logits are, summed over the N guesses, float32.

        The symmetric Kullback-Leibler divergence where there are classes, the squared difference of scores.
        """
        ...


class Task(Protocol):
    """A supervised task.

    One whose dev data may not suit what was learned from the training data also has ``check(model, dev)``, which raises
    a BothwaysError before the first step.

    One whose scores are no means over examples also has ``pooled(data, parts, places)``: what was said of parts of some
    data (`Examined`, and their places), judged as if it had been said of all at once.

    One whose metrics depend on the data also has ``judged_on(data)``: the same task with the `metrics` that suit them.

    One whose heads go on from the base's also has ``carry(start, model)``, which copies what they know.

    One whose examples must meet in one step also makes the ``stream`` itself, and its objective back-propagates:
    `bothways.learn.protocol.Objective`. One that trains something else beside has ``modules()``, by name.

    One whose head is not learned step by step also has ``settle(model)``, which solves it before each evaluation.

    Attributes:
        name: As on the command line.
        metrics: What it is scored by; the first is what the best weights are chosen by.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def metrics(self) -> tuple[str, ...]: ...  # noqa: D102

    def read(self, source: Any) -> Data:
        """Labelled rows of any form that `read_rows` takes, or files of the task's own forms, checked row by row.

        Raises:
            BothwaysError: What is wrong, in which row, and what to do.
        """
        ...

    def split(self, data: Any, share: float, seed: int) -> tuple[Any, Any]:
        """Holds out a share, so that it resembles the rest; the same for the same seed."""
        ...

    def heads(self, start: Model, train: Any) -> list[HeadConfig]:
        """The heads that the task adds to an encoder, labels included.

        Raises:
            BothwaysError: The data do not make a task, such as one class only.
        """
        ...

    def begin(self, model: Model, train: Any) -> str:
        """Puts what the data say into the new model's `decoding`; returns a sentence on what was inferred."""
        ...

    def examples(self, model: Model, data: Any, seed: int = 0) -> Examples:
        """Encoded examples for training, within the model's `max_length`, by its `truncation`.

        The seed decides what is put together by chance.

        Raises:
            BothwaysError: A label that the model does not know: which, where, and the closest that it does.
        """
        ...

    def numbers(self, examples: Any, seed: int) -> np.ndarray | None:
        """Which examples an epoch holds, for tasks that draw rare ones more often; None: each once."""
        ...

    def objective(self, model: Model, train: Any, seed: int = 0) -> TaskObjective:
        """What is learned; the seed decides what it draws."""
        ...

    def finish(self, model: Model, dev: Any) -> str:
        """Fits what is fitted after training (temperature, thresholds) on the dev set, into the model's `decoding`.

        Returns a sentence on it, or nothing.
        """
        ...

    def examine(self, model: Model, data: Any) -> Examined:
        """Runs the model and judges its answers.

        Raises:
            BothwaysError: The data hold a label that the model does not know.
        """
        ...

    def baselines(self, train: Any, test: Any) -> dict[str, Examined]:
        """What a model must beat, by name, learned from `train` and judged on `test`: majority, TF-IDF, ..."""
        ...
