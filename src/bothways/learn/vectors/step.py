"""What the losses over vectors are given, and what they give back.

Shapes: S texts of a step, in G groups, one after the other; E width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.learn.vectors.data import FORMS, VectorData


@dataclass(frozen=True)
class Step:
    """The vectors of a step, and what is known of its texts.

    Attributes:
        vectors: ``(S, E)`` float32, with gradients.
        starts: ``(G + 1,)`` where each group begins.
        ids: ``(S,)`` int64; equal texts have equal ids.
        right: ``(G,)`` what the loss that is asked holds for right of each group; None where it needs nothing.
        taught: ``(S, E)`` the teacher's vectors, where there is one.
        also: What else a loss has put beside the step.
    """

    vectors: Tensor
    starts: np.ndarray
    ids: np.ndarray
    right: Tensor | None = None
    taught: Tensor | None = None
    also: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def places(self) -> Tensor:
        """``(G,)`` the places of the first texts."""
        return torch.from_numpy(self.starts[:-1]).to(self.vectors.device)

    @property
    def first(self) -> Tensor:
        """``(G, E)`` the vectors of the first texts."""
        return self.vectors[self.places]

    @property
    def second(self) -> Tensor:
        """``(G, E)`` the vectors of the second texts."""
        return self.vectors[self.places + 1]

    @cached_property
    def others(self) -> tuple[Tensor, Tensor]:
        """The places of all texts from the third of each group on, and the number of the group of each."""
        counts = np.diff(self.starts) - 2
        groups = np.repeat(np.arange(len(counts)), counts)
        within = np.arange(len(groups)) - np.repeat(np.cumsum(counts) - counts, counts)
        device = self.vectors.device
        return torch.from_numpy(self.starts[groups] + 2 + within).to(device), torch.from_numpy(groups).to(device)

    def cut(self, dims: int) -> Step:
        """The same step with the first `dims` values of each vector; the teacher's stay whole."""
        return replace(self, vectors=self.vectors[:, :dims])


class Mean(NamedTuple):
    """A loss, the mean over a step, float32; and what share of its guesses was right, None where it makes none."""

    loss: Tensor
    right: Tensor | None = None


class VectorLoss(Protocol):
    """What is asked of vectors.

    One that trains something beside the encoder makes it: ``module(width)``. One whose mean goes over something else
    than groups says over how many: ``count(starts, also)``, from where the groups of a batch begin and what stands
    beside it.

    Attributes:
        name: As on the command line.
        needs: What data it needs, in words.
        forms: The forms of data it learns from.
        meets: Whether groups of a step are compared with each other, so that a step is never parted.
        guesses: Whether it counts right guesses.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def needs(self) -> str: ...  # noqa: D102
    @property
    def forms(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def meets(self) -> bool: ...  # noqa: D102
    @property
    def guesses(self) -> bool: ...  # noqa: D102
    def right(self, data: VectorData) -> np.ndarray | None:
        """``(N,)`` what is right for each group, as `loss` wants it; None where nothing is.

        Raises:
            BothwaysError: A score or label does not do.
        """
        ...

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the step, float32."""
        ...


def unit(x_NE: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays."""
    return functional.normalize(x_NE, dim=-1, eps=1e-12)


def cosines(step: Step) -> Tensor:
    """``(G,)`` the cosine of the first and the second text of each group."""
    return (unit(step.first) * unit(step.second)).sum(1)


def refuse(name: str, needs: str, data: VectorData) -> BothwaysError:
    """That a loss cannot learn from data: what it needs, what there is, what to do."""
    return BothwaysError(
        f"the loss {name} needs {needs}, but {data.name} holds {FORMS[data.form]}; give other data or another --loss "
        "(in Python loss=...), or name the columns"
    )
