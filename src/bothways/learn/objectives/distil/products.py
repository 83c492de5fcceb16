"""Products of all pairs of tokens in a sequence, a student's beside its teacher's.

What attention is made of is compared: the relations among queries, among keys and among values (Wang et al. 2020), or
the scores of queries with keys (Jiao et al. 2020). A batch has sum(L²) pairs for each head, so they exist for a few
sequences at a time; their gradients are known as soon as they are, and are all that is kept.

Shapes: T tokens, H heads, K and J the heads' widths in student and teacher; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bothways.batch import Rectangle

_MOST_PAIRS = 2**22
"""Products that exist at a time."""

Rows = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""From the products ``(N, H, L, L)`` of student and teacher to the loss and its gradient for the first."""


def relation_loss(ours_THK: Tensor, theirs_THJ: Tensor, plan: Sequence[Rectangle]) -> Tensor:
    """The sum over heads and tokens of KL(teacher's relations ‖ student's).

    Wang et al. 2020, "MiniLMv2", section 3.1: the relations of a token are softmax(x · xᵀ / √K) over its sequence.

    Args:
        ours_THK: ``(T, H, K)`` the student's queries, keys or values.
        theirs_THJ: ``(T, H, J)`` the teacher's; gets no gradient.
        plan: The batch as rectangles.

    Returns:
        A float32 scalar.
    """
    return _compare(ours_THK, ours_THK, theirs_THJ, theirs_THJ, plan, _divergence)


def score_loss(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], plan: Sequence[Rectangle]) -> Tensor:
    """The sum over heads and pairs of the squared differences of q · k / √K.

    Jiao et al. 2020, "TinyBERT", section 3.1: the scores before their softmax. What a family adds to them, such as
    biases of distances, is left out.

    Args:
        ours: The student's queries and keys ``(T, H, K)``.
        theirs: The teacher's ``(T, H, J)``; get no gradient.
        plan: The batch as rectangles.

    Returns:
        A float32 scalar.
    """
    return _compare(*ours, *theirs, plan, _squares)


def _divergence(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    logs, aimed = (torch.log_softmax(scores, dim=-1, dtype=torch.float32) for scores in (ours, theirs))
    shares = aimed.exp()
    return (aimed.sub_(logs).mul_(shares)).sum(), logs.exp_().sub_(shares)


def _squares(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    apart = ours.float() - theirs.float()
    return apart.square().sum(), 2 * apart


def _compare(
    a_THK: Tensor, b_THK: Tensor, c_THJ: Tensor, d_THJ: Tensor, plan: Sequence[Rectangle], rows: Rows
) -> Tensor:
    with torch.autocast(a_THK.device.type, enabled=False):
        taught = (x.detach().to(a_THK.dtype) for x in (c_THJ, d_THJ))
        return _Compare.apply(a_THK, b_THK, *taught, plan, rows)


class _Compare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, *rest: Any) -> Tensor:
        c, d, plan, rows = rest
        scale, scale_taught = (1 / math.sqrt(x.shape[-1]) for x in (a, c))
        loss = torch.zeros((), dtype=torch.float32, device=a.device)
        d_a, d_b = torch.zeros_like(a), torch.zeros_like(b)
        for tokens, sequences in _pieces(plan, a.shape[1]):
            ours, with_, theirs, taught = (_rectangle(x[tokens], sequences) for x in (a, b, c, d))
            scores = (ours * scale) @ with_.transpose(-1, -2)
            loss_part, gradient = rows(scores, (theirs * scale_taught) @ taught.transpose(-1, -2))
            loss += loss_part
            gradient = (gradient * scale).to(a.dtype)
            d_a[tokens] = _flat(gradient @ with_)
            d_b[tokens] = _flat(gradient.transpose(-1, -2) @ ours)
        ctx.save_for_backward(d_a, d_b)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        d_a, d_b = ctx.saved_tensors
        scale = grads[0].to(d_a.dtype)
        return d_a * scale, d_b * scale, None, None, None, None


def _pieces(plan: Sequence[Rectangle], heads: int) -> Iterator[tuple[slice, int]]:
    """The tokens of a few sequences of equal length, and how many sequences they are."""
    for start, sequences, length in plan:
        step = max(1, _MOST_PAIRS // (heads * length * length))
        for first in range(0, sequences, step):
            count = min(step, sequences - first)
            yield slice(start + first * length, start + (first + count) * length), count


def _rectangle(x: Tensor, sequences: int) -> Tensor:
    """From ``(N · L, H, K)`` to ``(N, H, L, K)``, a view."""
    return x.unflatten(0, (sequences, -1)).transpose(1, 2)


def _flat(x: Tensor) -> Tensor:
    """Back again."""
    return x.transpose(1, 2).flatten(0, 1)
