"""Classification of whole sequences.

Shapes: S sequences, D width, C classes.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bothways.model.parts.dropout import Dropout


class ClassifyHead(nn.Module):
    """A classifier on the pooled output.

    Args:
        width: D.
        classes: C.
        hidden: ``"none"``: dropout and one linear layer, as Devlin et al. 2018 fine-tune. ``"gelu"``: dropout, linear,
            GELU, dropout, linear, which helps where the encoder is frozen.
        dropout: Share of values dropped before each linear layer, in training.
    """

    def __init__(self, width: int, classes: int, hidden: str, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.hidden = nn.Linear(width, width) if hidden == "gelu" else None
        self.output = nn.Linear(width, classes)

    def forward(self, pooled_SD: Tensor) -> Tensor:
        """From the pooled output ``(S, D)`` to logits ``(S, C)``, float32."""
        x_SD = self.dropout(pooled_SD)
        if self.hidden is not None:
            x_SD = self.dropout(functional.gelu(self.hidden(x_SD)))
        return self.output(x_SD).float()
