"""How far one softmax over a large vocabulary is from another, without float32 copies of all logits.

The loss of soft targets (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2): a student's
distribution is compared with its teacher's, both softened by a temperature. With all tokens of a batch compared,
4,096 tokens over 30,000 classes are half a gigabyte of float32 for either. So it is computed as `vocabulary_loss` is:
logits of a chunk of positions, the softmax a few rows at a time, and the gradient in the place of the student's logits.

Shapes: M positions, V vocabulary, D and E the widths of student and teacher.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

_CHUNK = 2048
"""Positions whose logits exist at a time."""
_ROWS = 32
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


def soft_vocabulary_loss(student: Logits, teacher: Logits, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The sum over the positions of temperature² · KL(teacher's softmax ‖ student's), both softened.

    The square keeps the gradients as large as those of hard labels, whatever the temperature. The divergence differs
    from the cross-entropy by the teacher's entropy only, which has no gradient, and is 0 where both agree.

    Args:
        student: Gets gradients.
        teacher: For the same positions and classes, of any width; gets none.
        temperature: What all logits are divided by.

    Returns:
        The loss, a float32 scalar, and at how many positions both have the same highest logit, a float32 scalar
        without gradient.
    """
    kind = student.hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else student.hidden.dtype
    with torch.autocast(kind, enabled=False):
        taught = [tensor.detach().to(dtype) for tensor in teacher]
        return _SoftVocabularyLoss.apply(student.hidden.to(dtype), *student[1:], *taught, temperature)


class _SoftVocabularyLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, *taught: Any) -> tuple[Tensor, Tensor]:
        teacher_hidden, teacher_table, teacher_bias, temperature = taught
        linear = torch.nn.functional.linear
        cast_table, cast_bias = table.to(hidden.dtype), bias.to(hidden.dtype)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        hits = torch.zeros_like(loss)
        wanted = any(ctx.needs_input_grad[:3])
        grads = (torch.empty_like(hidden), torch.zeros_like(table), torch.zeros_like(bias)) if wanted else None
        for a in range(0, len(hidden), _CHUNK):
            part = slice(a, a + _CHUNK)
            logits = linear(hidden[part], cast_table, cast_bias)
            goal = linear(teacher_hidden[part], teacher_table, teacher_bias)
            loss_part, hits_part = _soft_rows(logits, goal, temperature, wanted)
            loss += loss_part
            hits += hits_part
            if grads is not None:
                d_hidden, d_table, d_bias = grads
                d_hidden[part] = logits @ cast_table  # logits hold their gradient by now
                d_table += logits.t() @ hidden[part]
                d_bias += logits.sum(0, dtype=torch.float32)
        ctx.save_for_backward(*(grads or ()))
        ctx.mark_non_differentiable(hits)
        return loss, hits

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        d_hidden, d_table, d_bias = ctx.saved_tensors
        return d_hidden * scale.to(d_hidden.dtype), d_table * scale, d_bias * scale, None, None, None, None


def _soft_rows(logits: Tensor, goal: Tensor, temperature: float, wanted: bool) -> tuple[Tensor, Tensor]:
    """Loss and hits of ``(M, V)`` logits; they are overwritten by their gradient if that is wanted."""
    step = _ROWS if logits.device.type == "cpu" else max(1, len(logits))
    losses, hits = [logits.new_zeros((), dtype=torch.float32)], [logits.new_zeros((), dtype=torch.float32)]
    for rows, aims in zip(logits.split(step), goal.split(step), strict=True):
        hits.append((rows.argmax(-1) == aims.argmax(-1)).sum(dtype=torch.float32))
        logs = torch.log_softmax(rows.float().div_(temperature), dim=-1)
        aimed = torch.log_softmax(aims.float().div_(temperature), dim=-1)
        shares = aimed.exp()
        losses.append((aimed.sub_(logs).mul_(shares)).sum() * temperature**2)
        if wanted:
            rows.copy_(logs.exp_().sub_(shares).mul_(temperature))
    return torch.stack(losses).sum(), torch.stack(hits).sum()
