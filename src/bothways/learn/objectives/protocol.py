"""What an objective on an encoder's output is, and how several are trained together.

An objective puts targets beside a batch, and turns encoder outputs and targets into a loss: a sum and, known before any
forward pass, a count. `Together` runs the encoder once for all of them and is what the training loop sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import TokenBatch
from bothways.learn.protocol import Item
from bothways.learn.utilisation import TRAINED, batch_work
from bothways.model.encoder import Encoder, EncoderOutput
from bothways.model.parts.devices import sent

Targets = dict[str, Any]
"""Arrays by names such as ``mlm.labels``: of NumPy, or tensors where a forward pass made them."""
Key = tuple[int, int]
"""Epoch and example id: with the seed, all that an example's randomness depends on."""


class Each(NamedTuple):
    """Guess by guess, without gradient: the losses ``(M,)``, float32, and which guesses are right ``(M,)``."""

    losses: Tensor
    right: Tensor


class Loss(NamedTuple):
    """A loss and a number of right guesses, both sums as float32 scalars; the second without gradient.

    `hits` is None for an objective that makes no guesses. `each` is what they are sums of, where that is told.
    """

    total: Tensor
    hits: Tensor | None
    each: Each | None = None


@dataclass(frozen=True)
class Forward:
    """One pass through an encoder, as objectives see it.

    Attributes:
        encoder: What was run.
        batch: What it was given.
        output: What came out; with hidden states if one of the objectives reads them.
        teacher: The same batch through the teacher, if there is one; without gradient.
    """

    encoder: Encoder
    batch: TokenBatch
    output: EncoderOutput
    teacher: Forward | None = None


class EncoderObjective(Protocol):
    """One thing to learn from an encoder's output.

    One whose head takes many multiplications also says how many: ``work(config, targets)``, for the forward pass. One
    that looks at the last hidden states of some tokens only says of which: ``looks_at(model, batch, targets)``,
    ascending. One whose guesses need more tokens than a text has says what the encoder is given instead, as many
    sequences in the same order: ``given(batch, targets)``. One that trains something else beside the encoder makes it:
    ``modules()``, by name. One that compares with a teacher says which of its hidden states it ``reads``.

    Attributes:
        name: As on the command line; its targets are called ``name.something``.
        heads: The heads it trains.
        hidden: Whether it reads the output of every layer.
        guesses: Whether its loss counts right guesses.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def heads(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def hidden(self) -> bool: ...  # noqa: D102
    @property
    def guesses(self) -> bool: ...  # noqa: D102
    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """The batch as the encoder is to see it, and the targets.

        Args:
            batch: S sequences of NumPy arrays.
            keys: Of each sequence, in the order of the batch.
            examples: What it was made from, in the same order.
            progress: Share of the run's steps taken before this one.
        """
        ...

    def count(self, targets: Targets) -> int:
        """How many guesses the targets ask for."""
        ...

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the losses over those guesses.

        Args:
            model: The encoder under ``"encoder"``, heads under their kinds.
            forward: What the encoder made of the batch.
            targets: What `prepare` put beside it.
        """
        ...


class Rewriter(Protocol):
    """What stands before the encoder, learns something itself and changes the batch: ELECTRA's generator.

    It also says ``work(model, item)``: the multiplications of its own passes, forward and backward.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """What it learns."""
        ...

    def counts(self, item: Item) -> dict[str, int]:
        """How many guesses of each kind it makes, known before any forward pass."""
        ...

    def rewrite(self, model: nn.ModuleDict, item: Item) -> tuple[dict[str, Loss], Item]:
        """Its losses, and the item that the encoder is given instead."""
        ...

    def guess(self, model: nn.ModuleDict, item: Item, places_M: np.ndarray) -> Tensor:
        """``(M, V)`` the logits of masked tokens at places of an item."""
        ...


class Teacher(Protocol):
    """A trained encoder that another learns from.

    It also says ``work(model, item)``: the multiplications of its forward pass, none where its outputs are kept.
    """

    def forward(self, batch: TokenBatch, targets: Targets, *, hidden: bool) -> Forward:
        """Runs it without gradient on the batch that the student sees."""
        ...


class Together:
    """Objectives that share one pass through the encoder: the loss is the weighted sum of their means.

    Args:
        objectives: At least one.
        weights: Of the losses, by name; 1 where none is given.
        before: What changes the batch first, if anything does.
        teacher: Whose outputs the objectives compare with, if any do.
    """

    def __init__(
        self,
        objectives: Sequence[EncoderObjective],
        weights: Mapping[str, float] | None = None,
        before: Rewriter | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        self.objectives, self.weights = tuple(objectives), dict(weights or {})
        self.before, self.teacher = before, teacher
        self._hidden = _hidden(objectives)

    @property
    def measured(self) -> tuple[str, ...]:
        """The names of all means: ``loss``, then ``loss.NAME`` and, where guesses are made, ``accuracy.NAME``."""
        names = [(name, True) for name in (self.before.names if self.before else ())]
        names += [(objective.name, objective.guesses) for objective in self.objectives]
        return ("loss", *(f"{what}.{name}" for name, both in names for what in ("loss", "accuracy")[: 1 + both]))

    def counts(self, item: Item) -> dict[str, int]:
        """How many guesses of each objective an item holds."""
        earlier = self.before.counts(item) if self.before else {}
        return earlier | {objective.name: objective.count(item[1]) for objective in self.objectives}

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters.

        Args:
            model: The encoder under ``"encoder"``, heads under their kinds.
            item: A batch and its targets.
            totals: The guesses of each objective in the whole step, which the sums are divided by.

        Returns:
            ``loss.NAME`` and ``hits.NAME``, sums over the item.
        """
        loss, losses = self.loss(model, item, totals)
        loss.backward()
        return sums_of(losses)

    def loss(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> tuple[Tensor, dict[str, Loss]]:
        """What `backward` back-propagates, and the losses by name that its sums are made of."""
        losses, _ = self._losses(model, item)
        means = [self.weights.get(name, 1.0) * loss.total / max(totals[name], 1) for name, loss in losses.items()]
        return torch.stack(means).sum(), losses

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of an item's products, forward and backward, as `bothways.learn.utilisation` counts them."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        batch, targets = item = self._given(item)
        trained = any(parameter.requires_grad for parameter in encoder.parameters())
        places = wanted(model, self.objectives, item)
        total = (TRAINED if trained else 1) * batch_work(
            encoder.config, batch.plan, None if places is None else len(places)
        )
        for objective in self.objectives:
            if hasattr(objective, "work"):
                total += TRAINED * objective.work(encoder.config, targets)
        for other in (self.before, self.teacher):
            if other is not None and hasattr(other, "work"):
                total += other.work(model, item)
        return total

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        return sums_of(self.examine(model, item)[0])

    def examine(self, model: nn.ModuleDict, item: Item) -> tuple[dict[str, Loss], Item]:
        """The losses without a gradient, and the item as the encoder was given it."""
        with torch.no_grad():
            return self._losses(model, item)

    def guess(self, model: nn.ModuleDict, item: Item, places_M: np.ndarray) -> Tensor:
        """``(M, V)`` logits at places of an item, from what guesses masked tokens here; there has to be something."""
        with torch.no_grad():
            if self.before is not None:
                return self.before.guess(model, item, places_M)
            objective = next(objective for objective in self.objectives if objective.name == "mlm")
            encoder: Encoder = model["encoder"]  # type: ignore[assignment]
            output = encoder(item[0], hidden=objective.hidden, pooled=False, places=np.unique(places_M))
            forward = Forward(encoder, item[0], output)
            return objective.guess(model["mlm"], forward, places_M)  # type: ignore[attr-defined]

    def _losses(self, model: nn.ModuleDict, item: Item) -> tuple[dict[str, Loss], Item]:
        losses: dict[str, Loss] = {}
        if self.before is not None:
            losses, item = self.before.rewrite(model, item)
        batch, targets = item = self._given(item)
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        taught = self.teacher.forward(batch, targets, hidden=self._hidden) if self.teacher else None
        forward = Forward(encoder, batch, encoded(model, self.objectives, item), taught)
        losses |= {objective.name: objective.loss(model, forward, targets) for objective in self.objectives}
        return losses, item

    def _given(self, item: Item) -> Item:
        batch, targets = item
        for objective in self.objectives:
            if hasattr(objective, "given"):
                batch = objective.given(batch, targets)
        return batch, targets


def wanted(model: nn.ModuleDict, objectives: Sequence[EncoderObjective], item: Item) -> np.ndarray | None:
    """``(M,)`` ascending, the tokens of an item whose last hidden states objectives look at; None: all."""
    asked = [objective.looks_at(model, *item) if hasattr(objective, "looks_at") else None for objective in objectives]
    some = [places for places in asked if places is not None]
    return np.unique(np.concatenate(some)) if len(some) == len(asked) and not _hidden(objectives) else None


def encoded(model: nn.ModuleDict, objectives: Sequence[EncoderObjective], item: Item) -> EncoderOutput:
    """What objectives look at of an item: as much of the encoder's output as they need."""
    encoder: Encoder = model["encoder"]  # type: ignore[assignment]
    batch, places = item[0], wanted(model, objectives, item)
    pooled = places is None or bool(np.isin(batch.starts[:-1], places).all())
    return encoder(batch, hidden=_hidden(objectives), pooled=pooled, places=places)


def _hidden(objectives: Sequence[EncoderObjective]) -> bool:
    return any(objective.hidden for objective in objectives)


def class_loss(logits: Tensor, labels: np.ndarray) -> Loss:
    """The sum of the cross-entropies of ``(S, C)`` logits against ``(S,)`` classes, and how many were guessed right."""
    right = sent(labels, logits.device)
    hits = (logits.detach().argmax(-1) == right).sum(dtype=torch.float32)
    return Loss(functional.cross_entropy(logits, right, reduction="sum"), hits)


def sums_of(losses: dict[str, Loss]) -> dict[str, float]:
    """All sums as plain numbers, fetched from the device at once."""
    values = {
        f"{what}.{name}": value.detach().float()
        for name, loss in losses.items()
        for what, value in (("loss", loss.total), ("hits", loss.hits))
        if value is not None
    }
    return dict(zip(values, torch.stack(list(values.values())).tolist(), strict=True))
