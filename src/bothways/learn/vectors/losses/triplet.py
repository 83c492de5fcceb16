"""Triplets: a text is to be nearer to one that belongs to it than to one that does not, by a margin.

Schroff et al. 2015, "FaceNet", section 3.1; for sentences Reimers and Gurevych 2019, section 3.

Shapes: N triplets; a group with several negatives makes several.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn
from torch.nn import functional

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.losses.distances import MARGINS, Distance, apart
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class Triplet:
    """What is missing of the margin.

    Attributes:
        distance: What is measured.
        margin: By how much; None takes what suits the distance.
    """

    distance: Distance = "cosine"
    margin: float | None = None
    name = "triplet"
    needs = "triplets: a text, one that belongs to it, and one that does not (columns anchor, positive, negative)"
    forms = ("triplets",)
    meets = False
    guesses = True

    def right(self, data: VectorData) -> None:
        """The order of a group says all."""

    def count(self, starts: np.ndarray, also: Mapping[str, Any]) -> int:
        """The triplets."""
        return int((np.diff(starts) - 2).sum())

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the triplets; right are those whose negative is farther away."""
        places_N, groups_N = step.others
        near_N = apart(step.first, step.second, self.distance)[groups_N]
        far_N = apart(step.first[groups_N], step.vectors[places_N], self.distance)
        margin = MARGINS[self.distance] if self.margin is None else self.margin
        right = (near_N.detach() < far_N.detach()).float().mean()
        return Mean(functional.relu(near_N - far_N + margin).mean(), right)
