"""The replaced-token head: was this token put here by a generator (Clark et al. 2020, section 2).

The head of DeBERTa v3 begins otherwise: the first token, in which a text is summed up, is added to each token and the
sum normed. He, Gao and Chen 2021 do not describe it; their published code and checkpoints have it.

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
        norm: If given, what each token's sum with its sequence's first token goes through before all else.
    """

    def __init__(self, width: int, activation: str, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.norm = norm
        self.dense = nn.Linear(width, width)
        self.activation = ACTIVATIONS[activation]
        self.output = nn.Linear(width, 1)

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(T,)``, float32; above 0 means replaced."""
        x_TD = output.sequence
        if self.norm is not None:
            x_TD = self.norm(x_TD + output.at_each_token(output.vectors("first")))
        return self.output(self.activation(self.dense(x_TD))).squeeze(-1).float()
