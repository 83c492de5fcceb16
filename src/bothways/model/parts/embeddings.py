"""From token ids to hidden states.

Shapes: T tokens, V vocabulary, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.model.parts.dropout import Dropout


class Embeddings(nn.Module):
    """Token, position and segment added up, normed, dropped out.

    Args:
        vocab_size: V.
        width: D.
        positions: Rows of the position table: the longest input.
        segments: Rows of the segment table.
        norm_eps: Epsilon of the norm.
        dropout: Share of values dropped in training.
        pad_id: The token whose row begins as zero and learns nothing from being looked up.
    """

    def __init__(
        self, vocab_size: int, width: int, positions: int, segments: int, norm_eps: float, dropout: float, pad_id: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, width, padding_idx=pad_id)
        self.positions = nn.Embedding(positions, width)
        self.segments = nn.Embedding(segments, width)
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def forward(self, token_ids_T: Tensor, positions_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """Looks the tokens up.

        Args:
            token_ids_T: ``(T,)`` integers below V.
            positions_T: ``(T,)`` integers below the rows of the position table.
            segment_ids_T: ``(T,)`` integers below the rows of the segment table.

        Returns:
            ``(T, D)``.
        """
        x_TD = self.tokens(token_ids_T) + self.segments(segment_ids_T) + self.positions(positions_T)
        return self.dropout(in_compute_type(self.norm(x_TD)))


def in_compute_type(values: Tensor) -> Tensor:
    """Values in the type that autocast computes in, so that everything above runs in it without further casts."""
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values
