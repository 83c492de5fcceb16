"""Mixout: in each step some weights are those of the pre-trained model (Lee, Cho and Kang 2020, section 3).

Where dropout puts zeros, mixout puts what was there before fine-tuning, so that the model is pulled back to it rather
than to nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bothways.model.encoder import Encoder
from bothways.model.parts.dropout import drop


class Mixout(nn.Module):
    """A weight's parametrisation: in training a share of its values is the base's, and the others lie further away.

    The mean over the choices is the weight itself. Evaluation sees the weight as it is.

    Args:
        base: The pre-trained values.
        share: That is replaced.
    """

    base: Tensor

    def __init__(self, base: Tensor, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("base", base, persistent=False)  # a continued run takes it from the base again

    def forward(self, weight: Tensor) -> Tensor:
        """The mixed weight, of the same shape."""
        return self.base + drop(weight - self.base, self.share) if self.training else weight


def mix(encoder: Encoder, start: Encoder, share: float) -> None:
    """Mixes all linear layers that are still those of the base; one that begins anew has nothing to go back to.

    Args:
        encoder: What is trained, changed in place; `unmix` makes it an ordinary one again.
        start: The base.
        share: Of the weights that are replaced; none where it is 0.
    """
    theirs = dict(start.named_modules())
    for name, layer in _linear(encoder).items() if share else ():
        own, other = layer.weight.detach(), theirs.get(name)
        if isinstance(other, nn.Linear) and torch.equal(own.cpu(), other.weight.detach().cpu()):
            parametrize.register_parametrization(layer, "weight", Mixout(own.clone(), share))


def unmix(encoder: Encoder) -> None:
    """Leaves the learned weights alone in their places."""
    for layer in _linear(encoder).values():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)


def _linear(encoder: Encoder) -> dict[str, nn.Linear]:
    return {name: part for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
