"""Tensors of which each process holds a part (`bothways.learn.parallel.Shards`), and whole ones, written alike."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def whole(tensor: Any) -> Tensor:
    """A tensor, put together where processes hold parts of it; then all of them have to ask."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def part(tensor: Any) -> Tensor:
    """What this process holds of a tensor; nobody else has to be asked."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def like(tensor: Tensor, place: Any) -> Tensor:
    """A whole tensor as its place has it: this process's part of it, where it has parts."""
    if not hasattr(place, "device_mesh"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    here = tensor.to(place.device)
    return distribute_tensor(here, place.device_mesh, place.placements, src_data_rank=None)
