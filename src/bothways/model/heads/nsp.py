"""Heads for two texts: does the second follow the first, are they in their order.

Devlin et al. 2018, section 3.1; Lan et al. 2019, section 3.1.

Shapes: S sequences, D width.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from bothways.model.encoder import EncoderOutput, places_read
from bothways.model.parts.dropout import Dropout


class TwoTextsHead(nn.Module):
    """A linear layer on one vector a sequence; class 0 is "follows" or "in order", class 1 that it is not so.

    Args:
        width: D.
        dropout: Share of values dropped before it, in training.
        reads: Which vector: the ``pooled`` output, or without one the ``first`` token or the ``mean``.
    """

    def __init__(self, width: int, dropout: float = 0.0, reads: str = "pooled") -> None:
        super().__init__()
        self.reads = reads
        self.dropout = Dropout(dropout)
        self.output = nn.Linear(width, 2)

    def places(self, starts: np.ndarray) -> np.ndarray | None:
        """``(S,)`` the tokens that it looks at; None: all."""
        return places_read(self.reads, starts)

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(S, 2)``, float32."""
        return self.output(self.dropout(output.vectors(self.reads))).float()
