"""From a model's modules to packed ones: the same structure with other layers in it.

Blocks of the usual kind become `PackedPostNorm`; in all others, and in heads, each linear layer is packed by itself, so
every family runs. Nothing of the original is changed, and what is not packed (tables, norms) is shared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock
from bothways.model.parts.buckets import BucketAttention
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.feed_forward import ACTIVATIONS, FeedForward
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.attention import PackedAttention, scaled
from bothways.run.engines.packed.block import PackedPostNorm
from bothways.run.engines.packed.linear import PackedLinear, can_pack, fuses

_PLAIN = (Attention, BucketAttention, CausalAttention)
"""Attention whose scores may be scaled before they are made."""


def pack(parts: Parts, dtype: torch.dtype) -> Parts:
    """Packs an encoder and its heads.

    Args:
        parts: Of a model on a processor.
        dtype: What the encoder multiplies: float32 or bfloat16; heads stay in float32.
    """
    encoder = _copy(parts.encoder)
    encoder.stack.blocks = nn.ModuleList([_block(block, dtype) for block in encoder.stack.blocks])
    _linears(encoder, dtype)
    heads = {kind: _linears(_copy(head), torch.float32) for kind, head in parts.heads.items()}
    return Parts(encoder, heads, parts.head_configs)


def _copy(module: Any) -> Any:
    """Another module with the same tensors and functions."""
    shared = {id(value): value for value in (*module.parameters(), *module.buffers(), *ACTIVATIONS.values())}
    return copy.deepcopy(module, shared)


def _block(block: nn.Module, dtype: torch.dtype) -> nn.Module:
    usual = type(block) is PostNormBlock and type(block.attention) in _PLAIN and type(block.feed_forward) is FeedForward
    if not usual or not can_pack(dtype):
        return block
    attention: Any = block.attention
    inner: Any = block.feed_forward.inner
    output: Any = block.feed_forward.output  # type: ignore[union-attr]
    packed = PackedAttention(
        attention,
        PackedLinear(*scaled(attention), dtype),
        PackedLinear(attention.output.weight, attention.output.bias, dtype),
    )
    name = _name_of(block.feed_forward.activation)  # type: ignore[union-attr]
    first: nn.Module = PackedLinear(inner.weight, inner.bias, dtype, name if fuses(name) else None)
    if not fuses(name):
        first = nn.Sequential(first, _Activation(ACTIVATIONS[name]))
    second = PackedLinear(output.weight, output.bias, dtype)
    return PackedPostNorm(packed, block.attention_norm, first, second, block.feed_forward_norm)  # type: ignore[arg-type]


def _linears(module: Any, dtype: torch.dtype) -> Any:
    """Packs every linear layer below a module that is not packed yet."""
    if not can_pack(dtype):
        return module
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                setattr(part, name, PackedLinear(child.weight, child.bias, dtype))
    return module


def _name_of(activation: Any) -> str:
    return next(name for name, known in ACTIVATIONS.items() if known is activation)


class _Activation(nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = apply

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)
