"""Vectors of all processes, with gradients, so that negatives come from everywhere.

Where `torch.distributed` has a process group, each process asks with its own texts and looks for the answer among the
candidates of all. Gradients flow back to where a vector was made: averaged over the processes, as data parallel
training does, the parameters' gradients are those of one process with all texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional


@dataclass(frozen=True)
class Gathered:
    """Texts of all processes, in the order of the processes.

    Attributes:
        vectors: ``(N, E)``.
        ids: ``(N,)`` int64.
        judged: ``(N, J)`` the vectors that tell false negatives, without gradient.
        begin: Where this process's own texts begin among them.
        count: How many of them are its own; None: all.
    """

    vectors: Tensor
    ids: np.ndarray
    judged: Tensor
    begin: int = 0
    count: int | None = None

    @property
    def local(self) -> Gathered:
        """Those of this process."""
        own = slice(self.begin, None if self.count is None else self.begin + self.count)
        return Gathered(self.vectors[own], self.ids[own], self.judged[own])

    def joined(self, more: Gathered) -> Gathered:
        """These and others after them."""
        return Gathered(
            torch.cat([self.vectors, more.vectors]),
            np.concatenate([self.ids, more.ids]),
            torch.cat([self.judged, more.judged]),
        )


def gather(own: Gathered) -> Gathered:
    """The texts of all processes; this process's alone where there are no others."""
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return own
    counts = _counts(len(own.ids), own.vectors.device)
    most, rank = max(counts), distributed.get_rank()
    places = torch.cat([torch.arange(count) + number * most for number, count in enumerate(counts)])
    ids = _all(torch.from_numpy(own.ids).to(own.vectors.device), most)[places]
    return Gathered(
        _AllGather.apply(_filled(own.vectors, most))[places],
        ids.cpu().numpy(),
        _all(own.judged, most)[places],
        sum(counts[:rank]),
        counts[rank],
    )


class _AllGather(torch.autograd.Function):
    """Rows of all processes; backwards each gets the sum of what all found for its own."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, rows: Tensor) -> Tensor:
        return torch.cat(_parts(rows))

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total.chunk(distributed.get_world_size())[distributed.get_rank()]


def _parts(rows: Tensor) -> list[Tensor]:
    parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
    distributed.all_gather(parts, rows.contiguous())
    return parts


def _all(rows: Tensor, most: int) -> Tensor:
    return torch.cat(_parts(_filled(rows.detach(), most)))


def _counts(count: int, device: torch.device) -> list[int]:
    return [int(part) for part in _parts(torch.tensor([count], device=device))]


def _filled(rows: Tensor, most: int) -> Tensor:
    """Rows of zeros at the end, up to `most`."""
    missing = most - len(rows)
    return rows if not missing else functional.pad(rows, (0, 0) * (rows.dim() - 1) + (0, missing))
