"""A learned vector for each distance between two tokens, the same table for all layers.

Shapes: L a sequence's length, R rows of the table that a batch needs, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bothways.model.parts.context import Context
from bothways.model.parts.devices import sent
from bothways.model.parts.embeddings import in_compute_type


@dataclass(frozen=True)
class Distances:
    """What a batch needs of the table.

    Attributes:
        rows: ``(R, D)`` the rows of all distances in the batch.
        index: ``(2 · longest + 1,)`` which of them each distance from -longest to longest has.
    """

    rows: Tensor
    index: Tensor

    def rising(self, length: int) -> Tensor:
        """``(2 · L,)`` rows of the distances from -L to L - 1."""
        middle = len(self.index) // 2
        return self.index[middle - length : middle + length]

    def falling(self, length: int) -> Tensor:
        """``(2 · L,)`` rows of the distances from L to 1 - L."""
        middle = len(self.index) // 2
        return self.index[middle - length + 1 : middle + length + 1].flip(0)


def row_of(distance: Tensor, rows: int, buckets: int, max_distance: int) -> Tensor:
    """The row of each distance in a table whose middle row is distance 0.

    Distances up to half of `buckets` have a row each; those beyond share rows by their logarithm, so that
    `max_distance` - 1 has the last but one. What is left over on either side is clipped to the table.

    Args:
        distance: Integers of any shape, the place of the query minus that of the key.
        rows: Of the table, an even number.
        buckets: On either side; 0 for a row a distance.
        max_distance: More than half of `buckets` by 2 at least.

    Returns:
        Integers from 0 to `rows` - 1 in the same shape.
    """
    place = distance
    if buckets:
        half = buckets // 2
        # in float32 and rounded up, as published models were: another rounding would move a distance to a neighbour
        far = distance.abs().clamp(min=half) / half
        steps = torch.ceil(torch.log(far) / torch.log(torch.tensor((max_distance - 1) / half)) * (half - 1))
        place = torch.where(distance.abs() <= half, distance, distance.sign() * (half + steps).long())
    return (place + rows // 2).clamp(0, rows - 1)


class DistanceTable(nn.Module):
    """The table, and its norm if it has one (He et al. 2020, section 3.1; He, Gao and Chen 2021, section 5).

    Args:
        width: D.
        max_distance: From which on all distances share a row.
        buckets: On either side; 0 for a row a distance.
        norm: Applied to the table, or None.
    """

    def __init__(self, width: int, max_distance: int, buckets: int, norm: nn.Module | None) -> None:
        super().__init__()
        self.table = nn.Embedding(2 * (buckets or max_distance), width)
        self.norm = norm
        self.max_distance, self.buckets = max_distance, buckets

    def prepare(self, context: Context) -> Distances:
        """The rows of the distances in the batch."""
        longest = max((piece.length for piece in context.plan), default=0)
        # on the host, whose logarithms are the same everywhere; rows rise with the distance, so one run is enough
        index = row_of(torch.arange(-longest, longest + 1), len(self.table.weight), self.buckets, self.max_distance)
        first, last = int(index[0]), int(index[-1])
        rows_RD = self.table.weight[first : last + 1]
        rows_RD = in_compute_type(rows_RD if self.norm is None else self.norm(rows_RD))
        return Distances(rows_RD, sent(index - first, rows_RD.device))
