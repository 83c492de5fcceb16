"""Online contrastive loss: the contrastive loss of the hard pairs of a step alone.

Hard are pairs that belong together and are farther apart than the nearest of the others, and those of the others that
are nearer than the farthest that belong together: the selection of Hermans et al. 2017 ("In Defense of the Triplet
Loss") on pairs, as Sentence-BERT's authors use it for duplicate questions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from bothways.learn.vectors.losses.contrastive import Contrastive
from bothways.learn.vectors.losses.distances import apart
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class OnlineContrastive(Contrastive):
    """The hard pairs of a step; settings and data as of `Contrastive`."""

    name = "online"
    meets = True

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The sum over the hard pairs, divided by the number of all."""
        assert step.right is not None
        apart_G = apart(step.first, step.second, self.distance)
        together = step.right > 0.5
        near, far = apart_G[together], apart_G[~together]
        if len(near) and len(far):
            near, far = near[near > far.min().detach()], far[far < near.max().detach()]
        losses = torch.cat([near.square(), functional.relu(self.margin - far).square()])
        return Mean((losses.sum() + 0.0 * apart_G.sum()) / len(apart_G))
