"""A moving average of the weights, which generalises better than the last of them (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential moving average of the trainable parameters.

    After n steps it is the mean of the weights after each of them, the newest counting 1, the one before `decay` of
    that, and so on: without a bias towards the weights before the first step, as Adam corrects its averages (Kingma and
    Ba 2015, section 3).

    Args:
        model: Whose parameters are averaged.
        decay: Between 0 and 1; about 1 / (1 - decay) steps count.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._places = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.decay = decay
        self.values: dict[str, Tensor] = {name: value.detach().clone() for name, value in self._places.items()}
        """The averages by the names of the parameters, on their device."""

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Takes in the weights after a step.

        Args:
            step: Its number, from 1.
        """
        share = (1 - self.decay) / (1 - self.decay**step)
        torch._foreach_lerp_(list(self.values.values()), list(self._places.values()), share)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within the block the model has the averages, after it its own weights again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def put(self) -> None:
        """Gives the model the averages for good."""
        for name, place in self._places.items():
            place.copy_(self.values[name])

    def restore(self, values: dict[str, Tensor]) -> None:
        """Puts saved averages back.

        Raises:
            ValueError: They are of another model.
        """
        if values.keys() != self.values.keys():
            raise ValueError(f"it averages other tensors: {', '.join(sorted(values.keys() ^ self.values.keys())[:3])}")
        for name, value in values.items():
            self.values[name].copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, place in self._places.items():
            kept = place.detach().clone()
            place.copy_(self.values[name])
            self.values[name].copy_(kept)
