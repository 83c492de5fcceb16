"""From token ids to hidden states.

Shapes: T tokens, V vocabulary, E width of the tables, D the encoder's width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.model.config import EmbeddingsConfig
from bothways.model.parts.dropout import Dropout


class Embeddings(nn.Module):
    """Token, position and segment added up, normed, dropped out, and projected where the encoder is wider.

    Args:
        tables: Which tables there are; `EmbeddingsConfig` says what each setting means.
        width: D.
    """

    def __init__(self, tables: EmbeddingsConfig, width: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tables.vocab_size, tables.width, padding_idx=tables.pad_id)
        self.positions = nn.Embedding(tables.positions, tables.width) if tables.positions else None
        self.segments = nn.Embedding(tables.segments, tables.width) if tables.segments else None
        self.norm = nn.LayerNorm(tables.width, eps=tables.norm_eps, bias=tables.norm_bias)
        self.dropout = Dropout(tables.dropout)
        projected = tables.always_projected or tables.width != width
        self.projection = nn.Linear(tables.width, width) if projected else None
        self.position_offset, self.positions_added = tables.position_offset, tables.positions_added
        self.dropout_first = tables.dropout_first

    def forward(self, token_ids_T: Tensor, positions_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """Looks the tokens up.

        Args:
            token_ids_T: ``(T,)`` integers below V.
            positions_T: ``(T,)`` the place of each token in its sequence, from 0.
            segment_ids_T: ``(T,)`` integers below the rows of the segment table; ignored by a table of one row.

        Returns:
            ``(T, D)``.
        """
        x_TE = self.tokens(token_ids_T)
        if self.segments is not None:
            constant = self.segments.num_embeddings == 1
            x_TE = x_TE + (self.segments.weight if constant else self.segments(segment_ids_T))
        if self.positions is not None and self.positions_added:
            x_TE = x_TE + self.positions(positions_T + self.position_offset)
        if self.dropout_first:
            x_TE = in_compute_type(self.norm(self.dropout(x_TE)))
        else:
            x_TE = self.dropout(in_compute_type(self.norm(x_TE)))
        return x_TE if self.projection is None else self.projection(x_TE)


def in_compute_type(values: Tensor) -> Tensor:
    """Values in the type that autocast computes in, so that everything above runs in it without further casts."""
    kind = values.device.type
    return values.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else values
