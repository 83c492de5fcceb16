"""What an objective on an encoder's output is, and how several are trained together.

An objective turns encoder outputs and targets into a loss: a sum and, known before any forward pass, a count.
`Together` runs the encoder once for all of them and is what the training loop sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.learn.protocol import Item
from bothways.model.encoder import EncoderOutput

Targets = dict[str, np.ndarray]
Key = tuple[int, int]
"""Epoch and example id: with the seed, all that an example's randomness depends on."""


class Loss(NamedTuple):
    """A loss and a number of right guesses, both sums as float32 scalars; the second without gradient."""

    total: Tensor
    hits: Tensor


def class_loss(logits: Tensor, labels: np.ndarray) -> Loss:
    """The sum of the cross-entropies of ``(S, C)`` logits against ``(S,)`` classes, and how many were guessed right."""
    right = torch.from_numpy(labels).to(logits.device)
    hits = (logits.detach().argmax(-1) == right).sum(dtype=torch.float32)
    return Loss(functional.cross_entropy(logits, right, reduction="sum"), hits)


class EncoderObjective(Protocol):
    """One thing to learn from an encoder's output.

    Attributes:
        name: As on the command line; its targets are called ``name.something``.
        head: The head it trains.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def head(self) -> str: ...  # noqa: D102
    def count(self, targets: Targets) -> int:
        """How many guesses the targets ask for."""
        ...

    def loss(self, model: nn.ModuleDict, output: EncoderOutput, targets: Targets) -> Loss:
        """The sum of the losses over those guesses."""
        ...


class Together:
    """Objectives that share one pass through the encoder: the loss is the sum of their means.

    Args:
        objectives: At least one.
    """

    def __init__(self, objectives: Sequence[EncoderObjective]) -> None:
        self.objectives = tuple(objectives)

    def counts(self, item: Item) -> dict[str, int]:
        """How many guesses of each objective an item holds."""
        return {objective.name: objective.count(item[1]) for objective in self.objectives}

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters.

        Args:
            model: The encoder under ``"encoder"``, heads under their kinds.
            item: A batch and its targets.
            totals: The guesses of each objective in the whole step, which the sums are divided by.

        Returns:
            ``loss.NAME`` and ``hits.NAME``, sums over the item.
        """
        losses = self._losses(model, item)
        sum(loss.total / max(totals[name], 1) for name, loss in losses.items()).backward()  # type: ignore[union-attr]
        return _numbers(losses)

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The same sums without a gradient."""
        with torch.no_grad():
            return _numbers(self._losses(model, item))

    def _losses(self, model: nn.ModuleDict, item: Item) -> dict[str, Loss]:
        batch, targets = item
        output = model["encoder"](batch)
        return {objective.name: objective.loss(model, output, targets) for objective in self.objectives}


def _numbers(losses: dict[str, Loss]) -> dict[str, float]:
    """All sums as plain numbers, fetched from the device at once."""
    names = [f"{what}.{name}" for name in losses for what in ("loss", "hits")]
    values = torch.stack([value.detach().float() for loss in losses.values() for value in loss])
    return dict(zip(names, values.tolist(), strict=True))
