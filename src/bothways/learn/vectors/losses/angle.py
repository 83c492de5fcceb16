"""AnglE: as CoSENT, with the angle of two vectors read as complex numbers in place of the cosine.

Li and Li 2023, "AnglE-optimized Text Embeddings", section 3.4: where cosines saturate near 1, angles still differ. The
paper adds it to CoSENT and in-batch negatives: ``cosent+angle``.

Shapes: G pairs, E width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bothways.learn.vectors.losses.cosent import CoSent, order_loss
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class Angle(CoSent):
    """The order of the angles in a step; settings and data as of `CoSent`."""

    name = "angle"

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """Over all pairs of pairs in the step."""
        assert step.right is not None
        return Mean(order_loss(self.scale * nearness(step.first, step.second), step.right))


def nearness(one_GE: Tensor, other_GE: Tensor) -> Tensor:
    """``(G,)`` how near two vectors' angles are, the higher the nearer (equations 5 to 7).

    It is the absolute sum of the parts of their quotient of length 1: 1 for a vector and itself, about 0 for vectors
    that have nothing in common. The paper calls it a difference of angles; its authors' program, and
    sentence-transformers after it, bring it into the order of the scores, as is done here. The first half of a vector
    is the real part, the second the imaginary one; of an odd number of values the last is left out.
    """
    half = one_GE.shape[1] // 2
    a, b = one_GE[:, :half], one_GE[:, half : 2 * half]
    c, d = other_GE[:, :half], other_GE[:, half : 2 * half]
    size = (c.square() + d.square()).sum(1, keepdim=True)
    real, imaginary = (a * c + b * d) / size, (b * c - a * d) / size
    scale = (a.square() + b.square()).sum(1, keepdim=True).sqrt() / size.sqrt()
    return (torch.cat([real, imaginary], dim=1) / scale).sum(1).abs()
