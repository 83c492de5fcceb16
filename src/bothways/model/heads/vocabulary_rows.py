"""Losses on softmaxes over a large vocabulary, without float32 copies of all logits.

The logits of 600 masked positions over 30,000 tokens are 75 MB in float32, and the plain way writes them five times.
Here one matrix product makes the logits of a chunk of positions, what is done with them is done in float32 to a few
rows at a time while they are in the cache, and the gradient takes the logits' place. So the gradients are ready when
the loss is, and the backward pass only scales them.

What is done with a few rows is a function: `vocabulary_loss` and `soft_vocabulary_loss` are such functions.

Shapes: M positions, V vocabulary, D and E widths; R positions that are looked at together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 2048
"""Positions whose logits exist at a time."""
_ROWS = 16
"""Positions whose logits exist in float32 at a time, on a CPU."""


class Logits(NamedTuple):
    """What logits are made of: hidden · tableᵀ + bias.

    Attributes:
        hidden: ``(M, D)``.
        table: ``(V, D)``, one row a class.
        bias: ``(V,)``.
    """

    hidden: Tensor
    table: Tensor
    bias: Tensor


Judge = Callable[[slice, Tensor, "Tensor | None"], tuple[Tensor, Tensor, Tensor]]
"""From the positions of a few rows, their logits ``(R, V)``, float32 and free to be overwritten, and those of others
for the same positions, if there are others, to the losses ``(R,)``, which guesses are right ``(R,)``, and the gradient
of the sum of the losses for the logits ``(R, V)``."""


def rows_loss(logits: Logits, judge: Judge, others: Logits | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of the losses of all rows.

    Args:
        logits: Get gradients.
        judge: What the losses are.
        others: Logits for the same positions and classes, of any width, to compare with; get no gradients.

    Returns:
        The loss, a float32 scalar with gradients for the logits' parts; ``(M,)`` the losses, float32, and ``(M,)``
        which guesses are right, both without.
    """
    kind = logits.hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else logits.hidden.dtype
    with torch.autocast(kind, enabled=False):
        if others is not None:
            hidden, table, bias = (tensor.detach() for tensor in others)
            others = Logits(hidden.to(dtype), table.to(dtype), bias)
        return _RowsLoss.apply(logits.hidden.to(dtype), logits.table, logits.bias, judge, others)


class _RowsLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, judge: Judge, others: Logits | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted, count = any(ctx.needs_input_grad[:3]), len(hidden)
        cast_table = table.to(hidden.dtype)
        losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
        right = torch.empty_like(losses, dtype=torch.bool)
        d_hidden, d_bias = (torch.empty_like(hidden), torch.zeros_like(bias)) if wanted else (None, None)
        d_table: Tensor | None = None
        step = _ROWS if hidden.device.type == "cpu" else _CHUNK
        for a in range(0, count, _CHUNK):
            chunk = slice(a, min(a + _CHUNK, count))
            logits = hidden[chunk] @ cast_table.t()
            goals = None if others is None else others.hidden[chunk] @ others.table.t()
            for b in range(a, chunk.stop, step):
                place, rows = slice(b, min(b + step, chunk.stop)), logits[b - a : b - a + step]
                aims = None if others is None or goals is None else _biased(goals[b - a : b - a + step], others.bias)
                losses[place], right[place], gradient = judge(place, _biased(rows, bias), aims)
                if d_bias is not None:
                    d_bias += gradient.sum(0)
                    rows.copy_(gradient)
            if d_hidden is not None:
                torch.mm(logits, cast_table, out=d_hidden[chunk])  # logits hold their gradient by now
                product = logits.t() @ hidden[chunk]
                # A single chunk's product is as exact in its own type; sums of several are not.
                single = count <= _CHUNK
                d_table = product if single else product.float() if d_table is None else d_table.add_(product)
        if wanted and d_table is None:  # no positions
            d_table = torch.zeros_like(table)
        ctx.save_for_backward(d_hidden, d_table, d_bias)
        ctx.mark_non_differentiable(losses, right)
        return losses.sum(), losses, right

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        d_hidden, d_table, d_bias = ctx.saved_tensors
        return d_hidden * scale.to(d_hidden.dtype), d_table.float().mul_(scale), d_bias * scale, None, None


def _biased(rows: Tensor, bias: Tensor) -> Tensor:
    """The sum in float32, a new tensor."""
    return rows + bias if rows.dtype == torch.float32 else rows.float().add_(bias)
