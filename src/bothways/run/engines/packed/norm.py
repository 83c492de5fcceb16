"""Layer norm, and the look-up of tokens that ends in one, by our own kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.kernels.functions import FLOATS, Kernels
from bothways.model.parts.embeddings import Embeddings


class PackedNorm(nn.Module):
    """As the `LayerNorm` that it is made of.

    Args:
        norm: Over the last dimension.
        kernel: What computes it, where it can.
    """

    def __init__(self, norm: nn.LayerNorm, kernel: Kernels) -> None:
        super().__init__()
        self._kernel, self._shape, self.epsilon = kernel, norm.normalized_shape, norm.eps
        gain, bias = norm.weight, norm.bias
        self.gain = torch.ones(self._shape, **FLOATS) if gain is None else gain.detach().float().contiguous()
        self.bias = torch.zeros(self._shape, **FLOATS) if bias is None else bias.detach().float().contiguous()

    def forward(self, x: Tensor) -> Tensor:
        """From ``(T, D)`` to ``(T, D)`` of the same type."""
        if len(self._shape) == 1 and self._kernel.reads(x):
            return self._kernel.normed(x, self.gain, self.bias, self.epsilon)
        return functional.layer_norm(x.float(), self._shape, self.gain, self.bias, self.epsilon).to(x.dtype)


class PackedEmbeddings(nn.Module):
    """As the `Embeddings` that it is made of, without dropout.

    Args:
        embeddings: Over tables in float32 that the kernel reads.
        kernel: What looks tokens up.
        dtype: What comes out; None for what is multiplied around it.
    """

    def __init__(self, embeddings: Embeddings, kernel: Kernels, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self._dtype = dtype
        self.tokens, self.positions, self.segments = embeddings.tokens, embeddings.positions, embeddings.segments
        self.projection, self._offset = embeddings.projection, embeddings.position_offset
        self._added = embeddings.positions_added
        self._kernel, self._norm = kernel, PackedNorm(embeddings.norm, kernel)

    def forward(self, token_ids_T: Tensor, positions_T: Tensor, segment_ids_T: Tensor) -> Tensor:
        """As `Embeddings.forward`; that ids are rows of their tables was made sure of before."""
        tables, places = [self.tokens.weight], [token_ids_T]
        if self.segments is not None:
            constant = self.segments.num_embeddings == 1
            tables.append(self.segments.weight)
            places.append(torch.zeros_like(segment_ids_T) if constant else segment_ids_T)
        if self.positions is not None and self._added:
            tables.append(self.positions.weight)
            places.append(positions_T + self._offset)
        around = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        dtype = self._dtype or around
        gain, bias, epsilon = self._norm.gain, self._norm.bias, self._norm.epsilon
        x_TE = self._kernel.looked_up(tables, places, dtype, gain, bias, epsilon)
        return x_TE if self.projection is None else self.projection(x_TE)
