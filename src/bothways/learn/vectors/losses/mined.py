"""Triplets mined in the step from texts with classes: the hardest, the semi-hard, or all.

Hard: the farthest text of its class and the nearest of another (Hermans et al. 2017, "In Defense of the Triplet Loss",
section 2, batch hard). Semi-hard: for each text of its class the nearest of another that is farther away still, or else
the farthest (Schroff et al. 2015, "FaceNet", section 3.2). All: every triplet that misses the margin (Hermans et al.
2017, batch all).

Shapes: S texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.losses.distances import MARGINS, Distance, all_apart
from bothways.learn.vectors.step import Mean, Step

Mining = Literal["hard", "semi_hard", "all"]


@dataclass(frozen=True)
class MinedTriplets:
    """What is missing of the margin in the triplets that are mined.

    Attributes:
        distance: What is measured.
        margin: By how much; None takes what suits the distance.
        mining: Which triplets.
    """

    distance: Distance = "cosine"
    margin: float | None = None
    mining: Mining = "semi_hard"
    name = "mined"
    needs = "single texts with a class each"
    forms = ("classes",)
    meets = True
    guesses = False

    def right(self, data: VectorData) -> np.ndarray:
        """The number of each class."""
        _, numbers = np.unique(np.array(data.labels), return_inverse=True)
        return numbers.astype(np.int64)

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the triplets."""
        assert step.right is not None
        counts = torch.from_numpy(np.diff(step.starts)).to(step.right.device)
        classes_S = step.right.repeat_interleave(counts)
        apart_SS = all_apart(step.vectors, self.distance)
        same_SS = classes_S[:, None] == classes_S[None, :]
        itself_SS = torch.eye(len(classes_S), dtype=torch.bool, device=same_SS.device)
        margin = MARGINS[self.distance] if self.margin is None else self.margin
        mine = {"hard": _hard, "semi_hard": _semi_hard, "all": _all}[self.mining]
        losses = mine(apart_SS, same_SS & ~itself_SS, ~same_SS, margin)
        return Mean(losses.mean() if len(losses) else 0.0 * apart_SS.sum())


def _hard(apart_SS: Tensor, same_SS: Tensor, other_SS: Tensor, margin: float) -> Tensor:
    whole = same_SS.any(1) & other_SS.any(1)
    near_S = apart_SS.masked_fill(~same_SS, -torch.inf).amax(1)[whole]
    far_S = apart_SS.masked_fill(~other_SS, torch.inf).amin(1)[whole]
    return functional.relu(near_S - far_S + margin)


def _semi_hard(apart_SS: Tensor, same_SS: Tensor, other_SS: Tensor, margin: float) -> Tensor:
    whole = same_SS & other_SS.any(1)[:, None]
    anchors_N, seconds_N = whole.nonzero(as_tuple=True)
    near_N, rows_NS = apart_SS[anchors_N, seconds_N], apart_SS[anchors_N]
    outside_NS = other_SS[anchors_N] & (rows_NS.detach() > near_N.detach()[:, None])
    next_N = rows_NS.masked_fill(~outside_NS, torch.inf).amin(1)
    farthest_N = rows_NS.masked_fill(~other_SS[anchors_N], -torch.inf).amax(1)
    return functional.relu(near_N - torch.where(outside_NS.any(1), next_N, farthest_N) + margin)


def _all(apart_SS: Tensor, same_SS: Tensor, other_SS: Tensor, margin: float) -> Tensor:
    anchors_N, seconds_N = same_SS.nonzero(as_tuple=True)
    missing_NS = apart_SS[anchors_N, seconds_N][:, None] - apart_SS[anchors_N] + margin
    return missing_NS[other_SS[anchors_N] & (missing_NS.detach() > 0)]
