"""The pooled output of BERT.

Shapes: S sequences, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Pooler(nn.Module):
    """The first token of each sequence through a linear layer and tanh (Devlin et al. 2018, section 3).

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)

    def forward(self, first_SD: Tensor) -> Tensor:
        """From the first tokens ``(S, D)`` to the pooled output ``(S, D)``."""
        return torch.tanh(self.dense(first_SD))
