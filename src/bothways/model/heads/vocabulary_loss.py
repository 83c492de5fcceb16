"""Cross-entropy over a large vocabulary without float32 copies of all logits.

The logits of 600 masked positions over 30,000 tokens are 75 MB in float32, and the plain way writes them five times.
Here one matrix product makes the logits of a chunk of positions, the softmax runs in float32 over a few rows at a time
while they are in the cache, and the gradient takes the logits' place. So the gradients are ready when the loss is,
and the backward pass only scales them.

Where classes are to be drawn as well, as ELECTRA's generator does, they are drawn from the same few rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 2048
"""Positions whose logits exist at a time."""
_ROWS = 16
"""Positions whose logits exist in float32 at a time, on a CPU."""


class Guesses(NamedTuple):
    """What came of guessing a class at each of M positions.

    Attributes:
        total: The sum of the cross-entropies, a float32 scalar; it alone carries a gradient.
        hits: How many labels had the highest logit, a float32 scalar.
        losses: ``(M,)`` the cross-entropies, float32.
        right: ``(M,)`` whether the label had the highest logit.
        drawn: ``(M,)`` the classes drawn, integers; nothing of meaning where none were to be drawn.
    """

    total: Tensor
    hits: Tensor
    losses: Tensor
    right: Tensor
    drawn: Tensor


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
    return vocabulary_guesses(hidden_MD, table_VD, bias_V, labels_M)[:2]


def vocabulary_guesses(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor, draws_M: Tensor | None = None
) -> Guesses:
    """The same, position by position too, and where it is asked for a class drawn with the softmax's probabilities.

    Args:
        hidden_MD: ``(M, D)``.
        table_VD: ``(V, D)``, one row a class.
        bias_V: ``(V,)``.
        labels_M: ``(M,)`` integers below V.
        draws_M: ``(M,)`` uniform random numbers of at least 0 and below 1, float32; each decides one class.
    """
    kind = hidden_MD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden_MD.dtype
    with torch.autocast(kind, enabled=False):
        total, losses, right, drawn = _VocabularyLoss.apply(hidden_MD.to(dtype), table_VD, bias_V, labels_M, draws_M)
    return Guesses(total, right.sum(dtype=torch.float32), losses, right, drawn)


class _VocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, labels: Tensor, draws: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        wanted = any(ctx.needs_input_grad[:3])
        cast_table = table.to(hidden.dtype)
        losses = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        right, drawn = torch.empty_like(labels, dtype=torch.bool), torch.empty_like(labels)
        d_hidden, d_bias = (torch.empty_like(hidden), torch.zeros_like(bias)) if wanted else (None, None)
        d_table: Tensor | None = None
        for a in range(0, len(labels), _CHUNK):
            part = slice(a, a + _CHUNK)
            logits = hidden[part] @ cast_table.t()
            drawing = None if draws is None else (draws[part], drawn[part])
            losses[part], right[part] = _softmax_rows(logits, bias, labels[part], d_bias, drawing)
            if d_hidden is not None:
                torch.mm(logits, cast_table, out=d_hidden[part])  # logits hold their gradient by now
                product = logits.t() @ hidden[part]
                # A single chunk's product is as exact in its own type; sums of several are not.
                single = len(labels) <= _CHUNK
                d_table = product if single else product.float() if d_table is None else d_table.add_(product)
        if wanted and d_table is None:  # no labels
            d_table = torch.zeros_like(table)
        ctx.save_for_backward(d_hidden, d_table, d_bias)
        ctx.mark_non_differentiable(losses, right, drawn)
        return losses.sum(), losses, right, drawn

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        d_hidden, d_table, d_bias = ctx.saved_tensors
        return d_hidden * scale.to(d_hidden.dtype), d_table.float().mul_(scale), d_bias * scale, None, None


def _softmax_rows(
    logits: Tensor, bias: Tensor, labels: Tensor, d_bias: Tensor | None, drawing: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Losses ``(M,)`` of logits, and which are right; logits are overwritten by their gradient if that is wanted.

    Args:
        logits: ``(M, V)``, without the bias.
        bias: ``(V,)``.
        labels: ``(M,)``.
        d_bias: ``(V,)`` to which the bias's gradient is added; None if no gradient is wanted.
        drawing: Uniform numbers ``(M,)``, and where the classes that they decide are written.
    """
    step = _ROWS if logits.device.type == "cpu" else len(labels)
    losses, right = [], []
    for a in range(0, len(labels), step):
        rows, target = logits[a : a + step], labels[a : a + step, None]
        biased = rows + bias if rows.dtype == torch.float32 else rows.float().add_(bias)
        highest, own = biased.amax(dim=-1, keepdim=True), biased.gather(1, target)
        shares = torch.softmax(biased, dim=-1)
        # The largest share is exp(highest - log of the sum), and never too small for its logarithm.
        losses.append((highest - own - shares.amax(dim=-1, keepdim=True).log()).squeeze(1))
        right.append((own >= highest).squeeze(1))
        if drawing is not None:
            drawing[1][a : a + step] = _drawn(shares, drawing[0][a : a + step])
        if d_bias is not None:
            shares.scatter_add_(1, target, torch.full_like(own, -1.0))
            d_bias += shares.sum(0)
            rows.copy_(shares)
    return torch.cat(losses), torch.cat(right)


def _drawn(shares_RV: Tensor, draws_R: Tensor) -> Tensor:
    """The class that each number falls on, where classes lie side by side, each as wide as its share."""
    ends_RV = shares_RV.cumsum(-1)
    aims_R1 = draws_R[:, None] * ends_RV[:, -1:]  # rounded, shares need not add up to 1
    return torch.searchsorted(ends_RV, aims_R1, right=True).squeeze(1).clamp_(max=shares_RV.shape[1] - 1)
