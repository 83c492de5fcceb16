"""Muon: every matrix moves by an almost orthogonal amount, so that weak directions of its gradient count too.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks", with the scale of Liu et al. 2025, "Muon
is Scalable for LLM Training", which makes its rates mean what AdamW's do. Steps and state are those of
`torch.optim.Muon`, which multiplies in bf16. Here a processor multiplies in float32: as fast where it has units for
bf16, as these products are small, and three times as fast where it has none. And a matrix twice as long as wide or
longer is done by way of its Gram matrix, which is smaller and on which the steps depend alone: half the time.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor

_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
_TINY = 1e-7
_RMS = 0.2
"""How large AdamW's updates are, as the root of their mean square."""


class Muon(torch.optim.Optimizer):
    """Of matrices alone.

    Args:
        groups: Of parameters, each with ``weight_decay``.
        lr: The rate, of the same size as AdamW's.
        momentum: Of the gradients' mean, Nesterov's.
    """

    def __init__(self, groups: list[dict], lr: float, momentum: float = 0.95) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes all matrices that have a gradient."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = cast(dict[str, Any], self.state[matrix])
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix.grad, memory_format=torch.preserve_format)
                mean = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
                update = orthogonal(matrix.grad.lerp(mean, momentum))
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(update, alpha=-rate * _RMS * math.sqrt(max(matrix.shape)))


def orthogonal(matrix_RC: Tensor) -> Tensor:
    """``(R, C)`` a matrix of the same singular vectors whose singular values lie about 1, by five Newton-Schulz steps.

    Each step makes ``p(X Xᵀ) X`` of X, with the polynomial p of Jordan et al.; what the steps make together is a
    polynomial of the first ``X Xᵀ`` as well.

    Args:
        matrix_RC: Any matrix; one that is shared out among processes too.
    """
    x = matrix_RC.float() if matrix_RC.device.type == "cpu" else matrix_RC.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=_TINY)
    # in bf16 the Gram matrix would lose what is small; of a matrix that is shared out each process has a part
    short = type(x) is Tensor and x.dtype == torch.float32 and x.shape[1] >= 2 * x.shape[0]
    x = _by_gram(x) if short else _by_steps(x)
    return x.T if tall else x


def _by_steps(x: Tensor) -> Tensor:
    for _ in range(_STEPS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x


def _by_gram(x: Tensor) -> Tensor:
    gram, product = x @ x.T, None
    for left in reversed(range(_STEPS)):
        factor = torch.addmm(gram, gram, gram, beta=_B, alpha=_C)
        factor.diagonal().add_(_A)
        product = factor if product is None else factor @ product
        if left:
            gram = factor @ (gram @ factor)
    return cast(Tensor, product) @ x
