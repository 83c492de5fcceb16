"""Position schemes whose tables do not depend on the lengths in a batch, as an exported graph needs them.

What belongs to a distance is looked up in a list of all distances that differ, computed once at export; farther ones
share the last entry. Shapes: L a sequence's length, R rows of a table, H heads, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bothways.model.parts.buckets import DistanceBias, bucket_of
from bothways.model.parts.context import Context
from bothways.model.parts.distances import DistanceTable, row_of


def exportable(scheme: nn.Module | None) -> nn.Module | None:
    """A scheme that prepares the same for a rectangle of any length."""
    match scheme:
        case DistanceBias():
            return _Biases(scheme)
        case DistanceTable():
            return _Rows(scheme)
        case _:
            return scheme


class _Lookup(nn.Module):
    """A number for each distance.

    Args:
        numbers: ``(2 · far + 1,)`` those of the distances from -far to far; beyond they stay what they are there.
    """

    numbers: Tensor

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)

    def forward(self, distances: Tensor) -> Tensor:
        """The numbers of distances of any shape."""
        far = self.numbers.shape[0] // 2
        return self.numbers[distances.clamp(-far, far) + far]


class _Biases(nn.Module):
    """`DistanceBias`, prepared for every length: what is prepared is asked for a length."""

    def __init__(self, scheme: DistanceBias) -> None:
        super().__init__()
        self.table = scheme.table
        far = 2 * scheme.max_distance
        distances = torch.arange(-far, far + 1)
        self.bucket = _Lookup(bucket_of(distances, scheme.table.num_embeddings, scheme.max_distance))

    def prepare(self, context: Context) -> _BiasOfLength:
        """``(H, L, L)`` for the rectangle."""
        places = torch.arange(context.plan[0].length)
        return _BiasOfLength(self.table(self.bucket(places - places[:, None])).permute(2, 0, 1))


class _BiasOfLength:
    """Stands where `BucketAttention` looks up a length; a graph has one rectangle, so one bias ``(H, L, L)``."""

    def __init__(self, bias: Tensor) -> None:
        self._bias = bias

    def __getitem__(self, length: int) -> Tensor:
        return self._bias


class _Rows(nn.Module):
    """`DistanceTable`, with all of its rows."""

    def __init__(self, scheme: DistanceTable) -> None:
        super().__init__()
        self.table, self.norm = scheme.table, scheme.norm
        far = 2 * scheme.max_distance
        rows = len(scheme.table.weight)
        self.row = _Lookup(row_of(torch.arange(-far, far + 1), rows, scheme.buckets, scheme.max_distance))

    def prepare(self, context: Context) -> _RowsOfLength:
        """The rows, normed, and which of them a distance has."""
        rows_RD = self.table.weight if self.norm is None else self.norm(self.table.weight)
        return _RowsOfLength(rows_RD, self.row)


class _RowsOfLength:
    """Stands where `DisentangledAttention` reads `Distances`."""

    def __init__(self, rows: Tensor, row: _Lookup) -> None:
        self.rows, self._row = rows, row

    def rising(self, length: int) -> Tensor:
        """``(2 · L,)`` rows of the distances from -L to L - 1."""
        return self._row(torch.arange(2 * length) - length)

    def falling(self, length: int) -> Tensor:
        """``(2 · L,)`` rows of the distances from L to 1 - L."""
        return self._row(length - torch.arange(2 * length))
