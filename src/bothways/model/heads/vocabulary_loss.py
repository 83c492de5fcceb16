"""Cross-entropy over a large vocabulary without float32 copies of all logits.

The logits of 600 masked positions over 30,000 tokens are 75 MB in float32, and the plain way writes them five times.
Here one matrix product makes the logits of a chunk of positions, the softmax runs in float32 over a few rows at a time
while they are in the cache, and the gradient takes the logits' place. So the gradients are ready when the loss is,
and the backward pass only scales them.

Where classes are to be drawn as well, as ELECTRA's generator does, they are drawn from the same few rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CHUNK = 2048
"""Positions whose logits exist at a time."""
_ROWS = 32
"""Positions whose logits exist in float32 at a time, on a CPU."""


def vocabulary_loss(hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of softmax(hidden · tableᵀ + bias) against the labels.

    Args:
        hidden_MD: ``(M, D)``.
        table_VD: ``(V, D)``, one row a class.
        bias_V: ``(V,)``.
        labels_M: ``(M,)`` integers below V.

    Returns:
        The loss, a float32 scalar with gradients for the first three, and the number of labels that had the highest
        logit, a float32 scalar without.
    """
    return _vocabulary_loss(hidden_MD, table_VD, bias_V, labels_M, None)[:2]


def vocabulary_loss_and_draws(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor, draws_M: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same, and for each position a class drawn with the softmax's probabilities.

    Args:
        hidden_MD: ``(M, D)``.
        table_VD: ``(V, D)``, one row a class.
        bias_V: ``(V,)``.
        labels_M: ``(M,)`` integers below V.
        draws_M: ``(M,)`` uniform random numbers of at least 0 and below 1, float32; each decides one class.

    Returns:
        What `vocabulary_loss` returns, and the classes ``(M,)``, integers without gradient.
    """
    return _vocabulary_loss(hidden_MD, table_VD, bias_V, labels_M, draws_M)


def _vocabulary_loss(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor, draws_M: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    kind = hidden_MD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_MD.dtype
    with torch.autocast(kind, enabled=False):
        return _VocabularyLoss.apply(hidden_MD.to(dtype), table_VD, bias_V, labels_M, draws_M)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor, draws: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:3])
        cast_table, cast_bias = table.to(hidden.dtype), bias.to(hidden.dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hits = torch.zeros_like(loss)
        drawn = torch.empty_like(labels)
        d_hidden = torch.empty_like(hidden) if wanted else None
        d_table = torch.zeros_like(table) if wanted else None
        d_bias = torch.zeros_like(bias) if wanted else None
        for a in range(0, len(labels), _CHUNK):
            part = slice(a, a + _CHUNK)
            logits = torch.nn.functional.linear(hidden[part], cast_table, cast_bias)
            drawing = None if draws is None else (draws[part], drawn[part])
            loss_part, hits_part = _softmax_rows(logits, labels[part], wanted, drawing)
            loss += loss_part
            hits += hits_part
            if d_hidden is not None and d_table is not None and d_bias is not None:
                d_hidden[part] = logits @ cast_table  # logits hold their gradient by now
                d_table += logits.t() @ hidden[part]
                d_bias += logits.sum(0, dtype=torch.float32)
        ctx.save_for_backward(d_hidden, d_table, d_bias)
        ctx.mark_non_differentiable(hits, drawn)
        return loss, hits, drawn

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        d_hidden, d_table, d_bias = ctx.saved_tensors
        return d_hidden * scale.to(d_hidden.dtype), d_table * scale, d_bias * scale, None, None


def _softmax_rows(
    logits: Tensor, labels: Tensor, wanted: bool, drawing: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Loss and hits of ``(M, V)`` logits; they are overwritten by their gradient if that is wanted.

    Args:
        logits: ``(M, V)``.
        labels: ``(M,)``.
        wanted: Whether the gradient is.
        drawing: Uniform numbers ``(M,)``, and where the classes that they decide are written.
    """
    step = _ROWS if logits.device.type == "cpu" else len(labels)
    losses, hits = [], []
    for a in range(0, len(labels), step):
        rows, target = logits[a : a + step], labels[a : a + step, None]
        logs = torch.log_softmax(rows, dim=-1, dtype=torch.float32)
        own = logs.gather(1, target)
        losses.append(-own.sum())
        hits.append((own.squeeze(1) >= logs.amax(dim=-1)).sum(dtype=torch.float32))
        if not wanted and drawing is None:
            continue
        shares = logs.exp_()
        if drawing is not None:
            drawing[1][a : a + step] = _drawn(shares, drawing[0][a : a + step])
        if wanted:
            rows.copy_(shares.scatter_add_(1, target, torch.full_like(own, -1.0)))
    return torch.stack(losses).sum(), torch.stack(hits).sum()


def _drawn(shares_RV: Tensor, draws_R: Tensor) -> Tensor:
    """The class that each number falls on, where classes lie side by side, each as wide as its share."""
    ends_RV = shares_RV.cumsum(-1)
    aims_R1 = draws_R[:, None] * ends_RV[:, -1:]  # rounded, shares need not add up to 1
    return torch.searchsorted(ends_RV, aims_R1, right=True).squeeze(1).clamp_(max=shares_RV.shape[1] - 1)
