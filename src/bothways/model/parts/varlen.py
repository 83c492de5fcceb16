"""Attention over sequences of any length by one call of torch's own, as GPUs compute it.

Dao 2023, "FlashAttention-2". Where this torch or this GPU has no such call, rectangles of equal lengths are attended to
as everywhere else.

Shapes: T tokens, S sequences, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from bothways.batch import Rectangle, TokenBatch

_HALVES = (torch.bfloat16, torch.float16)
_WIDEST, _WIDTHS = 256, 8
"""The widest head that the kernel takes, and what a head's width must be a multiple of."""
_OLDEST = (8, 0)
"""The compute capability of the first GPUs that have it (NVIDIA's Ampere)."""


class Edged(tuple[Rectangle, ...]):
    """A plan that knows on the GPU too where its sequences begin.

    Attributes:
        edges: ``(S + 1,)`` int32, on the device.
        longest: Tokens of the longest sequence.
    """

    edges: Tensor
    longest: int

    @classmethod
    def of(cls, batch: TokenBatch, device: torch.device) -> Edged:
        """The plan of a batch."""
        plan = cls(batch.plan)
        plan.edges = torch.from_numpy(batch.starts).to(device, torch.int32)
        plan.longest = batch.longest
        return plan


def plan_of(batch: TokenBatch) -> tuple[Rectangle, ...]:
    """What attention is given of a batch, wherever it lies."""
    device = batch.positions.device if isinstance(batch.positions, Tensor) else torch.device("cpu")
    return Edged.of(batch, device) if batch.plan and has_kernel(device) else batch.plan


def takes(plan: object, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, dropout: float) -> bool:
    """Whether `attend_edged` computes this; it knows no float32 and no dropout, and may sum in any order."""
    width = q_THK.shape[-1]
    return (
        isinstance(plan, Edged)
        and dropout == 0.0
        and q_THK.dtype == k_THK.dtype == v_THK.dtype
        and q_THK.dtype in _HALVES
        and width <= _WIDEST
        and width % _WIDTHS == 0
        and not torch.are_deterministic_algorithms_enabled()
    )


def attend_edged(
    q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, plan: Edged, scale: float, window: int | None = None
) -> Tensor:
    """Every token attends to the tokens of its own sequence.

    Args:
        q_THK: ``(T, H, K)`` queries in half precision.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: Where sequences begin.
        scale: What the products of queries and keys are multiplied by.
        window: How far a token sees to either side; None for all the way.

    Returns:
        ``(T, H, K)``.
    """
    call = kernel()
    assert call is not None  # or there were no edges
    near = {} if window is None else {"window_size": (window, window)}
    mixed: Tensor = call(q_THK, k_THK, v_THK, plan.edges, plan.edges, plan.longest, plan.longest, scale=scale, **near)
    return mixed


@lru_cache(maxsize=8)
def has_kernel(device: torch.device) -> bool:
    """Whether sequences of any length are one call there."""
    if device.type != "cuda" or torch.version.cuda is None or torch.cuda.get_device_capability(device) < _OLDEST:
        return False
    return kernel() is not None


@lru_cache(maxsize=1)
def kernel() -> Callable[..., Any] | None:
    """Torch's attention over sequences of any length; None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn
