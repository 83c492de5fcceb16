"""Contrastive loss: pairs that belong together are drawn together, others pushed apart up to a margin.

Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping", section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn
from torch.nn import functional

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.losses.distances import Distance, apart
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class Contrastive:
    """Half of the squared distance, or of what is left of it to the margin.

    Attributes:
        distance: What is measured.
        margin: From which distance on pairs that do not belong together are far enough apart.
    """

    distance: Distance = "cosine"
    margin: float = 0.5
    name = "contrastive"
    needs = "pairs of texts labelled 1 (they belong together) or 0"
    forms = ("labelled",)
    meets = False
    guesses = False

    def right(self, data: VectorData) -> np.ndarray:
        """1 for pairs that belong together."""
        return data.flags().astype(np.float32)

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the pairs."""
        assert step.right is not None
        apart_G = apart(step.first, step.second, self.distance)
        near_G, far_G = apart_G.square(), functional.relu(self.margin - apart_G).square()
        return Mean((step.right * near_G + (1 - step.right) * far_G).mean() / 2)
