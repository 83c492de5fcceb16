"""The replaced-token head: was this token put here by a generator (Clark et al. 2020, section 2).

Shapes: T tokens, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from bothways.model.encoder import EncoderOutput
from bothways.model.parts.feed_forward import ACTIVATIONS


class ReplacedTokenHead(nn.Module):
    """Linear, activation, linear to one score a token.

    Args:
        width: D.
        activation: A name in `ACTIVATIONS`.
    """

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Linear(width, 1)

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(T,)``, float32; above 0 means replaced."""
        return self.output(self.activation(self.dense(output.sequence))).squeeze(-1).float()
