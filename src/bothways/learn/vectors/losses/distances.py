"""How far apart two vectors are.

Shapes: N and M vectors of width E.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from bothways.learn.vectors.step import unit

Distance = Literal["cosine", "euclidean", "manhattan"]
MARGINS = {"cosine": 0.2, "euclidean": 1.0, "manhattan": 1.0}
"""Of triplets: 1 for Euclidean distances in Reimers and Gurevych 2019 (section 3), 0.2 in Schroff et al. 2015, whose
vectors have length 1."""
_TINY = 1e-12


def apart(one_NE: Tensor, other_NE: Tensor, distance: Distance) -> Tensor:
    """``(N,)`` the distances of rows."""
    if distance == "cosine":
        return 1 - (unit(one_NE) * unit(other_NE)).sum(1)
    if distance == "manhattan":
        return (one_NE - other_NE).abs().sum(1)
    return (one_NE - other_NE).square().sum(1).clamp_min(_TINY).sqrt()


def all_apart(x_NE: Tensor, distance: Distance) -> Tensor:
    """``(N, N)`` the distances of all rows from each other."""
    if distance == "cosine":
        x_NE = unit(x_NE)
        return 1 - x_NE @ x_NE.T
    if distance == "manhattan":
        return torch.cdist(x_NE, x_NE, p=1.0)
    squares_N = x_NE.square().sum(1)
    return (squares_N[:, None] + squares_N[None, :] - 2 * x_NE @ x_NE.T).clamp_min(_TINY).sqrt()
