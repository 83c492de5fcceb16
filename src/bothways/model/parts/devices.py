"""What differs between kinds of devices: how numbers get there, and what torch cannot do on some.

Shapes: T tokens, S sequences.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_REDUCE = ("cpu", "cuda")
"""Kinds of devices for which torch has `segment_reduce`."""


def sent(values: Tensor | np.ndarray, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Values on a device.

    What comes from the host goes to a GPU without waiting for what it is at. CUDA has read ordinary memory when the
    call returns, so it may be changed or given back then; of other devices that is not known.
    """
    here = torch.as_tensor(values)
    return here.to(device, dtype or here.dtype, non_blocking=here.is_cpu and device.type == "cuda")


def sums(x: Tensor, lengths_S: Tensor) -> Tensor:
    """``(S, ...)`` the sums over the tokens of each sequence of ``(T, ...)``."""
    if x.device.type in _REDUCE:
        return _reduced(x, "sum", lengths_S)
    return x.new_zeros(len(lengths_S), *x.shape[1:]).index_add(0, _sequence_of(x, lengths_S), x)


def maxima(x: Tensor, lengths_S: Tensor) -> Tensor:
    """``(S, ...)`` the largest values over the tokens of each sequence of ``(T, ...)``."""
    if x.device.type in _REDUCE:
        return _reduced(x, "max", lengths_S)
    places = _sequence_of(x, lengths_S).view(-1, *(1 for _ in x.shape[1:])).expand_as(x)
    return x.new_zeros(len(lengths_S), *x.shape[1:]).scatter_reduce(0, places, x, "amax", include_self=False)


def _reduced(x: Tensor, how: str, lengths_S: Tensor) -> Tensor:
    # "unsafe" leaves out a look at the lengths, for which a GPU would have to be waited for; ours are right
    return torch.segment_reduce(x, how, lengths=lengths_S, axis=0, unsafe=True)


def _sequence_of(x: Tensor, lengths_S: Tensor) -> Tensor:
    """``(T,)`` the sequence of each token."""
    return torch.arange(len(lengths_S), device=x.device).repeat_interleave(lengths_S, output_size=len(x))
