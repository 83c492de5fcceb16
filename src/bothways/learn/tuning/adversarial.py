"""Adversarial training: the embeddings of a text are disturbed in the direction that hurts most, and are to do no harm.

``fgm``: Miyato, Dai and Goodfellow 2017, "Adversarial Training Methods for Semi-Supervised Text Classification",
section 3: the direction in which the loss grows; the disturbed text is learned too. ``sift``: He, Liu, Gao and Chen
2021, "DeBERTa", section 4 (scale-invariant fine-tuning), with the direction of Miyato et al. 2018, "Virtual Adversarial
Training", section 3.3: that in which the guesses change most; disturbed guesses are to be like undisturbed ones. All
passes of a step have the same dropout masks.

Shapes: T tokens, S sequences, E width of the normed embeddings.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives.protocol import Together
from bothways.learn.protocol import Item
from bothways.learn.tuning.passes import Regularised, disturbed, same_masks
from bothways.model.encoder import Encoder

USUAL_SIZE = {"sift": 5.0, "fgm": 0.5}
"""The length of a sequence's disturbance; the normed embeddings' own is √(L · E). 5 as in the code of Miyato et al.
2017; where the disturbed text is learned too, that much kept a pre-trained encoder from learning a few hundred examples
at all, and 1 slowed it down."""


def of_length(direction_TE: Tensor, batch: TokenBatch, length: float) -> Tensor:
    """``(T, E)`` a disturbance in a direction, as long for each sequence; 0 where there is no direction.

    Args:
        direction_TE: ``(T, E)``.
        batch: Which tokens belong together.
        length: Of a sequence's part, over all its tokens together.
    """
    scaled_TE = direction_TE / direction_TE.abs().max().clamp_min(1e-30)  # or squares of small gradients would vanish
    sequence_T = torch.from_numpy(batch.sequence_of_token).to(direction_TE.device)
    squares_S = scaled_TE.new_zeros(batch.sequences).index_add(0, sequence_T, scaled_TE.square().sum(1))
    return scaled_TE * (length / squares_S.clamp_min(1e-30).sqrt())[sequence_T, None]


class Adversarial(Regularised):
    """A task's objective with the loss of disturbed texts.

    Args:
        together: The task's objective.
        weight: Of that loss.
        size: The length of a sequence's disturbance.
    """

    name = "adversarial"

    def __init__(self, together: Together, weight: float, size: float) -> None:
        super().__init__(together, weight)
        self.size = size


class Fgm(Adversarial):
    """The disturbed text's own loss. Two passes, one after the other, so that memory is that of one."""

    passes = 2

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradients of the plain and of the disturbed text."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        none_TE = _nothing(encoder, item[0])
        with same_masks(encoder.device), disturbed(encoder, none_TE):
            loss = self.task.loss(model, self.forward(model, item), item[1])
            self.share(loss.total, self.task.name, totals).backward()
        assert none_TE.grad is not None
        with disturbed(encoder, of_length(none_TE.grad, item[0], self.size)):
            hurt = self.task.loss(model, self.forward(model, item), item[1])
            self.share(hurt.total, self.name, totals).backward()
        return self.told(loss, hurt.total)


class Sift(Adversarial):
    """The divergence between the guesses for the plain and for the disturbed text."""

    passes = 3

    def backward(self, model: nn.ModuleDict, item: Item, totals: dict[str, int]) -> dict[str, float]:
        """Adds the gradients of the loss and of the divergence, which flows through both guesses."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        with same_masks(encoder.device):
            plain, loss = self.guesses(model, item)
        with same_masks(encoder.device):
            by_TE = self._worst(model, item, plain.detach())
        with disturbed(encoder, by_TE):
            moved = self.task.logits(model, self.forward(model, item), item[1])
        apart = self.task.distance(plain, moved, item[1])
        (self.share(loss.total, self.task.name, totals) + self.share(apart, self.name, totals)).backward()
        return self.told(loss, apart)

    def _worst(self, model: nn.ModuleDict, item: Item, plain: Tensor) -> Tensor:
        """``(T, E)`` the disturbance: from a chance one of its length, where the divergence grows fastest."""
        encoder: Encoder = model["encoder"]  # type: ignore[assignment]
        start_TE = of_length(_noise(encoder, item[0]), item[0], self.size).requires_grad_()
        with disturbed(encoder, start_TE):
            moved = self.task.logits(model, self.forward(model, item), item[1])
        (gradient_TE,) = torch.autograd.grad(self.task.distance(plain, moved, item[1]), start_TE)
        return of_length(gradient_TE, item[0], self.size)


def _nothing(encoder: Encoder, batch: TokenBatch) -> Tensor:
    """``(T, E)`` zeros that gather a gradient."""
    return torch.zeros(batch.tokens, encoder.config.embeddings.width, device=encoder.device, requires_grad=True)


def _noise(encoder: Encoder, batch: TokenBatch) -> Tensor:
    """``(T, E)`` normal noise that depends on the step and on places in sequences, not on what else is in the batch."""
    draw = generator("disturb", torch.initial_seed())  # the loop seeds torch anew for each step
    rows = draw.standard_normal((batch.longest, encoder.config.embeddings.width), dtype="float32")
    return torch.from_numpy(rows[batch.positions]).to(encoder.device)
