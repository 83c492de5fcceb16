"""Linear layers whose weights are packed once, with activation and residual sum inside the product.

Shapes: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.kernels.compiled import kernels
from bothways.model.kernels.functions import FLOATS

FUSED = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "tanh": ("tanh", "")}
"""Activations that the product applies itself, by the name in `ACTIVATIONS`."""
_ROWS = 1024
"""For which the layout of the weights is chosen; any number of rows can be multiplied by it."""


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch multiplies by packed weights of a type here, and rightly: a small product is tried."""
    x, weight, bias = (torch.linspace(-1, 1, count, **FLOATS).to(dtype) for count in (64, 512, 16))
    x, weight = x.view(2, 32), weight.view(16, 32)
    try:
        with torch.inference_mode():
            packed = torch.ops.mkldnn._reorder_linear_weight(weight, 2)
            found = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "gelu", [], "none")
            summed = torch.ops.mkldnn._linear_pointwise.binary(x, found, packed, bias, "add")
    except (AttributeError, RuntimeError):  # an operator without a promise to stay
        return False
    plain = functional.linear(x.float(), weight.float(), bias.float())
    near = 0.05 if dtype == torch.bfloat16 else 1e-4
    rounded = functional.gelu(plain)
    return bool((found - rounded).abs().max() < near and (summed - plain - rounded).abs().max() < 2 * near)


class PackedLinear(nn.Module):
    """A linear layer for inference: by our own kernel where there is one, else by oneDNN.

    Args:
        weight: ``(O, I)`` float32.
        bias: ``(O,)``, or None.
        dtype: What is multiplied: float32 or bfloat16.
        activation: Applied to what comes out; a name in `ACTIVATIONS` that can be fused, or None.
        out: What comes out, if it is not the same; float16 from our own kernel alone.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        activation: str | None = None,
        out: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.dtype, self.out = dtype, out or dtype
        self.out_features, self.in_features = weight.shape
        weight = weight.detach().to(dtype).contiguous()
        ours = kernels()
        self._ours = ours if ours is not None and ours.multiplies(weight, activation) else None
        self._activation = activation
        if self._ours is not None:
            self._weight = self._ours.packed(weight)
            bias = torch.zeros(self.out_features, **FLOATS) if bias is None else bias.detach().float().contiguous()
        else:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS)
            bias = None if bias is None else bias.detach().to(dtype)
        self._bias: Any = bias

    @property
    def any_shape(self) -> bool:
        """Whether the first product of a number of rows costs no more than the next ones."""
        return self._ours is not None

    def forward(self, x_TI: Tensor) -> Tensor:
        """From ``(T, I)``, or any shape that ends in I, to ``(T, O)``."""
        x_TI = x_TI.to(self.dtype)
        if not x_TI.numel():
            return x_TI.new_empty(*x_TI.shape[:-1], self.out_features, dtype=self.out)
        if self._ours is not None:
            return self._ours.linear(x_TI, self._weight, self._bias, self.out, activation=self._activation)
        kernel, algorithm = ("none", "") if self._activation is None else FUSED[self._activation]
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x_TI.contiguous(), self._weight, self._bias, kernel, [], algorithm
        )
        return out.to(self.out)

    def plus(self, x_TI: Tensor, other_TO: Tensor) -> Tensor:
        """What `forward` gives, without activation, and another ``(T, O)`` added to it."""
        if not x_TI.numel():
            return other_TO
        x_TI, other_TO = x_TI.to(self.dtype).contiguous(), other_TO.to(self.out).contiguous()
        if self._ours is None and self.out != self.dtype:
            return self.forward(x_TI).add_(other_TO)
        if self._ours is not None:
            return self._ours.linear(x_TI, self._weight, self._bias, self.out, added=other_TO)
        out: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x_TI, other_TO, self._weight, self._bias, "add")
        return out
