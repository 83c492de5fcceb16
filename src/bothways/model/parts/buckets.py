"""Attention with a learned bias for each head and bucket of distances (Raffel et al. 2020, section 2.1).

Shapes: H heads, N sequences, L a sequence's length, K head width; in a table B buckets.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bothways.model.parts.attend import Score
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.model.parts.embeddings import in_compute_type

Biases = dict[int, Tensor]
"""What is added to the scores of a sequence ``(H, L, L)``, by its length L."""


def bucket_of(distance: Tensor, buckets: int, max_distance: int) -> Tensor:
    """The bucket of each distance.

    The first half of the buckets is for keys at the query's place and before it, the second for those after it. In each
    half the first half has a bucket a distance; the others grow by a constant factor until `max_distance`, from which
    on all distances share the last.

    Args:
        distance: Places of keys minus places of queries, integers of any shape.
        buckets: B, a multiple of 4.
        max_distance: More than a quarter of B.

    Returns:
        Integers from 0 to B - 1 in the same shape.
    """
    half, exact = buckets // 2, buckets // 4
    far = distance.abs()
    octaves = torch.log(far.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    shared = (exact + (octaves * (half - exact)).long()).clamp(max=half - 1)
    return torch.where(far < exact, far, shared) + half * (distance > 0)


class DistanceBias(nn.Module):
    """The table of biases, one for all layers.

    Args:
        heads: H.
        buckets: B.
        max_distance: From which on all distances share the last bucket.
    """

    def __init__(self, heads: int, buckets: int, max_distance: int) -> None:
        super().__init__()
        self.table = nn.Embedding(buckets, heads)
        self.max_distance = max_distance

    def prepare(self, context: Context) -> Biases | list[Tensor]:
        """The biases of every length in the batch, made once for all layers.

        Where tokens do not see all others their places need not be in order: then for each rectangle ``(N, H, L, L)``.
        """
        if context.sight is not None:
            return self._by_place(context)
        lengths = sorted({piece.length for piece in context.plan})
        places = torch.arange(max(lengths, default=0))  # on the host, whose logarithms are the same everywhere
        buckets_LL = bucket_of(places - places[:, None], self.table.num_embeddings, self.max_distance)
        bias_HLL = in_compute_type(self.table(buckets_LL.to(self.table.weight.device))).permute(2, 0, 1).contiguous()
        return {length: bias_HLL[:, :length, :length] for length in lengths}  # a shorter sequence has a corner of it

    def _by_place(self, context: Context) -> list[Tensor]:
        longest = max((piece.length for piece in context.plan), default=0)
        distances = torch.arange(-longest, longest + 1)
        bucket_of_each = bucket_of(distances, self.table.num_embeddings, self.max_distance)
        bucket_of_each = bucket_of_each.to(self.table.weight.device)
        found = []
        for start, sequences, length in context.plan:
            places_NL = context.positions[start : start + sequences * length].unflatten(0, (sequences, length))
            buckets_NLL = bucket_of_each[places_NL[:, None] - places_NL[:, :, None] + longest]
            found.append(in_compute_type(self.table(buckets_NLL)).permute(0, 3, 1, 2))
        return found


class BucketAttention(Attention):
    """Attention that adds what a `DistanceBias` prepared. Args: as `Attention`."""

    def score(self, context: Context, layer: int) -> Score | None:
        """The bias of the rectangle's length, the same in every layer and sequence."""
        biases: Biases = context.prepared
        return lambda q_NHLK, _: biases[q_NHLK.shape[-2]]
