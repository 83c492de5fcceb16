"""Attention, dropout and GELU with gradients from our own kernels.

Shapes: T tokens, H heads, K head width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from bothways.model.kernels.compiled import kernels
from bothways.model.kernels.functions import FLOATS, Drop, Kernels


def learning(x: Tensor, rate: float = 0.0) -> Kernels | None:
    """The kernels where a gradient is to go back through some values on a processor; else None, and torch does it.

    Where a share is dropped they are taken without a gradient too: a pass that is made twice drops the same then.

    Args:
        x: The values, of any shape.
        rate: What share is dropped.
    """
    wanted = rate > 0 or (x.requires_grad and torch.is_grad_enabled())
    if x.device.type != "cpu" or not wanted or torch.compiler.is_compiling():
        return None
    return kernels() if x.dtype in (torch.float32, torch.bfloat16) else None


def gelu(x: Tensor) -> Tensor:
    """GELU (Hendrycks and Gimpel 2016), the exact one. Any shape."""
    kernel = learning(x)
    if kernel is None:
        return functional.gelu(x)
    activated: Tensor = _Gelu.apply(x, kernel)
    return activated


def attended(
    q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, starts: np.ndarray, scale: float, drop: Drop, kernel: Kernels
) -> Tensor:
    """As `Kernels.attention`, of queries, keys and values ``(T, H, K)``, with a gradient: ``(T, H, K)``."""
    mixed: Tensor = _Attention.apply(q_THK, k_THK, v_THK, starts, scale, drop, kernel)
    return mixed


def dropped(values: Tensor, drop: Drop, kernel: Kernels) -> Tensor:
    """As `Kernels.dropped`; the gradient is dropped in the same places."""
    kept: Tensor = _Dropped.apply(values, drop, kernel)
    return kept


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, starts: np.ndarray, scale: float, drop: Drop, kernel: Kernels
    ) -> Tensor:
        tokens, heads, width = q.shape
        qkv = [each.reshape(tokens, heads * width).contiguous() for each in (q, k, v)]
        logs = torch.empty(heads, tokens, **FLOATS)
        out = kernel.attention(qkv, starts, heads, scale=scale, drop=drop, logs=logs)
        ctx.save_for_backward(*qkv, out, logs)
        ctx.how = starts, heads, scale, drop, kernel
        return out.view(tokens, heads, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        *qkv, out, logs = ctx.saved_tensors
        starts, heads, scale, drop, kernel = ctx.how
        flat = gradient.reshape(out.shape).to(out.dtype)
        found = kernel.attention_gradient(qkv, out, flat, starts, heads, scale=scale, drop=drop, logs=logs)
        return *(each.view(gradient.shape) for each in found), None, None, None, None


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, drop: Drop, kernel: Kernels) -> Tensor:
        ctx.how = drop, kernel
        return kernel.dropped(values, drop)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        drop, kernel = ctx.how
        return kernel.dropped(gradient, drop), None, None


class _Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, kernel: Kernels) -> Tensor:
        ctx.save_for_backward(values)
        ctx.kernel = kernel
        return functional.gelu(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        found: Tensor = ctx.kernel.gelu_gradient(values, gradient)
        return found, None
