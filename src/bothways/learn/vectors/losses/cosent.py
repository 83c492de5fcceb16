"""CoSENT: of any two pairs the one with the higher score is to have the higher cosine.

Su 2022, "CoSENT: a more effective sentence vector scheme than Sentence-BERT" (kexue.fm/archives/8847): log(1 + the sum
over pairs i with a higher score than j of exp(scale * (cosine_j - cosine_i))). Only the order of scores counts, so they
may have any range.

Shapes: G pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step, cosines


@dataclass(frozen=True)
class CoSent:
    """The order of the cosines in a step.

    Attributes:
        scale: What differences of cosines are multiplied by.
    """

    scale: float = 20.0
    name = "cosent"
    needs = "pairs of texts with a score each"
    forms = ("scored", "labelled")
    meets = True
    guesses = False

    def right(self, data: VectorData) -> np.ndarray:
        """Scores."""
        return data.scores().astype(np.float32)

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """Over all pairs of pairs in the step."""
        assert step.right is not None
        return Mean(order_loss(self.scale * cosines(step), step.right))


def order_loss(likeness_G: Tensor, right_G: Tensor) -> Tensor:
    """log(1 + the sum of exp(likeness_j - likeness_i) over all i with a higher score than j)."""
    wrong_GG = likeness_G[None, :] - likeness_G[:, None]
    told = wrong_GG[right_G[:, None] > right_G[None, :]]
    return torch.logsumexp(torch.cat([likeness_G.new_zeros(1), told]), dim=0) + 0.0 * likeness_G.sum()
