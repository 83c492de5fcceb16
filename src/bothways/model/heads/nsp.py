"""The next-sentence head: does the second text follow the first (Devlin et al. 2018, section 3.1).

Shapes: S sequences, D width.
"""

from __future__ import annotations

from torch import Tensor, nn


class NextSentenceHead(nn.Module):
    """A linear layer on the pooled output; class 0 is "follows", class 1 "does not".

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, 2)

    def forward(self, pooled_SD: Tensor) -> Tensor:
        """From the pooled output ``(S, D)`` to logits ``(S, 2)``, float32."""
        return self.output(pooled_SD).float()
