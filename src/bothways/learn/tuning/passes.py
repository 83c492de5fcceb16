"""What regularisers that need several passes through the encoder have in common.

Shapes: T tokens, S sequences, E width of the normed embeddings, N guesses, C classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Forward, Loss, Together, encoded, sums_of
from bothways.learn.protocol import Item
from bothways.learn.tasks.protocol import TaskObjective
from bothways.model.encoder import Encoder


class Regularised(ABC):
    """A task's objective with a further loss, for which the encoder runs more than once: what the loop is given.

    Args:
        together: The task's objective, alone.
        weight: Of the further loss.

    Attributes:
        name: Of the further loss, in the log.
        passes: How many times the work of a plain step it takes.

    Raises:
        BothwaysError: The objective's guesses cannot be compared.
    """

    name: str
    passes: int

    def __init__(self, together: Together, weight: float) -> None:
        alone = len(together.objectives) == 1 and together.before is None and together.teacher is None
        if not alone or not all(hasattr(together.objectives[0], name) for name in ("logits", "distance")):
            learned = ", ".join(objective.name for objective in together.objectives)
            raise BothwaysError(f"{self.name} compares the guesses of one task, which {learned} does not allow")
        self.together = together
        self.task = cast(TaskObjective, together.objectives[0])
        self.weights = {**together.weights, self.name: weight}

    def counts(self, item: Item) -> dict[str, int]:
        """How many guesses an item holds, for the task and for the further loss."""
        own = self.together.counts(item)
        return {**own, self.name: own[self.task.name]}

    @abstractmethod
    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradient of an item to the parameters; as `Objective.backward`."""

    def evaluate(self, model: nn.ModuleDict, item: Item) -> dict[str, float]:
        """The task's sums without a gradient."""
        return self.together.evaluate(model, item)

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of an item's products in all passes."""
        return self.passes * self.together.work(model, item)

    def forward(self, model: nn.ModuleDict, item: Item) -> Forward:
        """One pass."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        return Forward(encoder, item[0], encoded(model, [self.task], item))

    def guesses(self, model: nn.ModuleDict, item: Item) -> tuple[Tensor, Loss]:
        """The logits ``(N, C)`` of one pass and the task's loss, from the same dropout masks."""
        forward = self.forward(model, item)
        with same_masks(forward.encoder.device):
            logits = self.task.logits(model, forward, item[1])
        return logits, self.task.loss(model, forward, item[1])

    def share(self, loss: Tensor, kind: str, totals: dict[str, int]) -> Tensor:
        """What a loss of a kind, summed over an item, adds to the loss of the whole step."""
        return self.weights.get(kind, 1.0) * loss / max(totals[kind], 1)

    def told(self, loss: Loss, further: Tensor) -> dict[str, float]:
        """The item's sums by name."""
        return sums_of({self.task.name: loss, self.name: Loss(further, None)})


def same_masks(device: torch.device) -> AbstractContextManager[Any]:
    """What follows the block draws the same random numbers as the block itself, and so the same dropout masks."""
    if device.type == "cpu":
        manager: AbstractContextManager[Any] = torch.random.fork_rng(devices=[])
    else:
        manager = torch.random.fork_rng(devices=[device], device_type=device.type)
    return manager


@contextmanager
def disturbed(encoder: Encoder, by_TE: Tensor) -> Iterator[None]:
    """Within the block something is added to the embeddings where they are normed: mean 0 and variance 1 each token.

    He et al. 2021, section 4 (SiFT), and Miyato et al. 2017, section 3, both disturb normed embeddings, for else a
    model would escape by making its embeddings long. The norm's own weights are applied to the sum.

    Args:
        encoder: Any.
        by_TE: ``(T, E)`` what is added, in the order of the batch.
    """
    norm: nn.LayerNorm = encoder.embeddings.norm  # type: ignore[assignment]
    hook = norm.register_forward_hook(lambda _, inputs, output: output + by_TE * norm.weight)
    try:
        yield
    finally:
        hook.remove()
