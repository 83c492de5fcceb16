"""Attention over sequences of any length by one call of torch's own, as GPUs compute it.

Dao 2023, "FlashAttention-2". Where this torch or this GPU has no such call, rectangles of equal lengths are attended to
as everywhere else.

Shapes: T tokens, S sequences, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from bothways.batch import Rectangle, TokenBatch
from bothways.model.parts.devices import sent

_HALVES = (torch.bfloat16, torch.float16)
_WIDEST, _WIDTHS = 256, 8
"""The widest head that the kernel takes, and what a head's width must be a multiple of."""
_WIDEST_LEARNT = 192
"""The widest head whose gradient every such GPU has room for, with dropout or without."""
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
        plan.edges = sent(batch.starts, device, torch.int32)
        plan.longest = batch.longest
        return plan


def plan_of(batch: TokenBatch) -> tuple[Rectangle, ...]:
    """What attention is given of a batch, wherever it lies."""
    device = batch.positions.device if isinstance(batch.positions, Tensor) else torch.device("cpu")
    return Edged.of(batch, device) if batch.plan and has_kernel(device) else batch.plan


def takes(plan: object, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, dropout: float) -> bool:
    """Whether `attend_edged` computes this; it knows no float32, and may sum in any order."""
    width = q_THK.shape[-1]
    learnt = dropout > 0.0 or q_THK.requires_grad or k_THK.requires_grad or v_THK.requires_grad
    return (
        isinstance(plan, Edged)
        and q_THK.dtype == k_THK.dtype == v_THK.dtype
        and q_THK.dtype in _HALVES
        and width <= (_WIDEST_LEARNT if learnt else _WIDEST)
        and width % _WIDTHS == 0
        and not torch.are_deterministic_algorithms_enabled()
    )


def attend_edged(
    q_THK: Tensor,
    k_THK: Tensor,
    v_THK: Tensor,
    plan: Edged,
    scale: float,
    *,
    dropout: float = 0.0,
    window: int | None = None,
) -> Tensor:
    """Every token attends to the tokens of its own sequence.

    Args:
        q_THK: ``(T, H, K)`` queries in half precision.
        k_THK: ``(T, H, K)`` keys.
        v_THK: ``(T, H, K)`` values.
        plan: Where sequences begin.
        scale: What the products of queries and keys are multiplied by.
        dropout: Share of attention weights that is dropped.
        window: How far a token sees to either side; None for all the way.

    Returns:
        ``(T, H, K)``.
    """
    # The operator itself: its wrapper in `torch.nn.attention` knows no dropout, in torch 2.10 neither scale nor window,
    # and brings torch's compiler along, which takes seconds.
    side = -1 if window is None else window
    mixed: Tensor = kernel()(
        q_THK,
        k_THK,
        v_THK,
        plan.edges,
        plan.edges,
        plan.longest,
        plan.longest,
        dropout,
        False,  # causal
        False,  # with a mask to look at
        scale=scale,
        window_size_left=side,
        window_size_right=side,
    )[0]
    return mixed


@lru_cache(maxsize=8)
def has_kernel(device: torch.device) -> bool:
    """Whether sequences of any length are one call there; torch for Windows has its name and not the kernel."""
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= _OLDEST
    )


def kernel() -> Callable[..., tuple[Tensor, ...]]:
    """Torch's attention over sequences of any length, with its gradient."""
    found: Callable[..., tuple[Tensor, ...]] = torch.ops.aten._flash_attention_forward
    return found
