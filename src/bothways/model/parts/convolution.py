"""A convolution over neighbouring tokens of the same sequence.

Shapes: T tokens, S sequences, D width.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bothways.model.parts.context import Context
from bothways.model.parts.dropout import Dropout
from bothways.model.parts.feed_forward import ACTIVATIONS
from bothways.model.parts.padded import Padded


class Convolution(nn.Module):
    """Stands beside the first layer: adds a convolution of what went in to what came out, and norms the sum.

    He et al. 2020, section 5.3 ("nGiE"), and the published DeBERTa v2.

    Args:
        width: D.
        kernel: Tokens that it spans, an odd number.
        groups: Groups of channels that do not mix.
        activation: A name in `ACTIVATIONS`.
        norm_eps: Epsilon of the norm.
        dropout: Share of the convolution's values dropped before the activation, in training.
    """

    def __init__(self, width: int, kernel: int, groups: int, activation: str, norm_eps: float, dropout: float) -> None:
        super().__init__()
        self.reach = kernel // 2
        self.conv = nn.Conv1d(width, width, kernel, padding=self.reach, groups=groups)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        self.norm = nn.LayerNorm(width, eps=norm_eps)

    def forward(self, before_TD: Tensor, after_TD: Tensor, context: Context) -> Tensor:
        """Mixes neighbours.

        Args:
            before_TD: ``(T, D)`` what went into the layer.
            after_TD: ``(T, D)`` what came out of it.
            context: Where sequences begin.

        Returns:
            ``(T, D)``.
        """
        if isinstance(context.plan, Padded):
            mixed_TD = self._padded(before_TD, context.plan)
        else:
            mixed_TD = self.neighbours(before_TD, context.starts)
        return self.norm(after_TD + self.activation(self.dropout(mixed_TD)))

    def neighbours(self, x_TD: Tensor, starts: np.ndarray) -> Tensor:
        """``(T, D)`` the convolution; beyond the ends of a sequence lie zeros."""
        if not len(x_TD):
            return x_TD
        # laid out with gaps as long as the kernel reaches, one pass over all sequences lets none see another
        gaps = np.repeat(np.arange(len(starts) - 1) * self.reach, np.diff(starts))
        places = np.arange(len(gaps)) + gaps
        places_T = torch.from_numpy(places).to(x_TD.device)
        spaced = x_TD.new_zeros(int(places[-1]) + 1, x_TD.shape[1]).index_copy(0, places_T, x_TD)
        return self.conv(spaced.t()[None])[0].t()[places_T]

    def _padded(self, x_TD: Tensor, plan: Padded) -> Tensor:
        """The same over a rectangle, whose padding counts as zeros."""
        x_NLD = plan.rectangle(x_TD) * plan.real[:, :, None]
        return self.conv(x_NLD.transpose(1, 2)).transpose(1, 2).flatten(0, 1)
