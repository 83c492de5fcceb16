"""From a model's modules to packed ones: the same structure with other layers in it.

Blocks of the usual kind become `PackedPostNorm`; in all others, and in heads, each linear layer is packed by itself, so
every family runs. Nothing of the original is changed, and what is not packed (tables, norms) is shared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bothways.model.encoder import Encoder
from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock
from bothways.model.parts.buckets import BucketAttention
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.feed_forward import ACTIVATIONS, FeedForward
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.attention import PackedAttention, scaled
from bothways.run.engines.packed.block import PackedPostNorm
from bothways.run.engines.packed.calibrate import AFTER_NORM, MIXED, Smoothing
from bothways.run.engines.packed.int8 import InputScale, Int8Linear
from bothways.run.engines.packed.linear import FUSED, PackedLinear, can_pack

_PLAIN = (Attention, BucketAttention, CausalAttention)
"""Attention whose scores may be scaled before they are made."""


def pack(parts: Parts, dtype: torch.dtype, scales: Mapping[str, InputScale] | None = None) -> Parts:
    """Packs an encoder and its heads.

    Args:
        parts: Of a model on a processor.
        dtype: What the encoder multiplies: float32 or bfloat16; heads stay in float32.
        scales: For layers that are to multiply in int8, by the names of `layers`, the scales of their inputs.
    """
    encoder = _copy(parts.encoder)
    packed = [_block(block, f"block {place}", dtype, scales or {}) for place, block in enumerate(encoder.stack.blocks)]
    encoder.stack.blocks = nn.ModuleList(packed)
    _linears(encoder, dtype)
    heads = {kind: _linears(_copy(head), torch.float32) for kind, head in parts.heads.items()}
    return Parts(encoder, heads, parts.head_configs)


def layers(encoder: Encoder) -> dict[str, tuple[nn.Linear, Smoothing | None]]:
    """The layers that can multiply in int8, by name, and how the channels of their inputs are smoothed."""
    found: dict[str, tuple[nn.Linear, Smoothing | None]] = {}
    for place, block in enumerate(encoder.stack.blocks):
        if _usual(block):
            attention: Any = block.attention
            feed_forward: Any = block.feed_forward
            found[f"block {place} queries"] = (attention.query, AFTER_NORM)
            found[f"block {place} mixed"] = (attention.output, MIXED)
            found[f"block {place} inner"] = (feed_forward.inner, AFTER_NORM)
            found[f"block {place} outer"] = (feed_forward.output, None)
    return found


def _copy(module: Any) -> Any:
    """Another module with the same tensors and functions."""
    shared = {id(value): value for value in (*module.parameters(), *module.buffers(), *ACTIVATIONS.values())}
    return copy.deepcopy(module, shared)


def _usual(block: nn.Module) -> bool:
    return type(block) is PostNormBlock and type(block.attention) in _PLAIN and type(block.feed_forward) is FeedForward


def _block(block: Any, name: str, dtype: torch.dtype, scales: Mapping[str, InputScale]) -> nn.Module:
    if not _usual(block) or not can_pack(dtype):
        return block  # type: ignore[no-any-return]
    stream = torch.float32 if scales else dtype

    def layer(which: str, weight: Tensor, bias: Tensor | None, out: torch.dtype, activation: str | None = None) -> Any:
        scale = scales.get(f"{name} {which}")
        if scale is None:
            return PackedLinear(weight, bias, dtype, activation)
        gives = scales.get(f"{name} outer") if which == "inner" and fused else None
        return Int8Linear(weight, bias, scale, out, activation, gives)

    attention, inner, output = block.attention, block.feed_forward.inner, block.feed_forward.output
    activation = next(known for known, apply in ACTIVATIONS.items() if apply is block.feed_forward.activation)
    fused = activation in FUSED
    packed = PackedAttention(
        attention,
        layer("queries", *scaled(attention), dtype),
        layer("mixed", attention.output.weight, attention.output.bias, stream),
    )
    first = layer("inner", inner.weight, inner.bias, dtype, activation if fused else None)
    if not fused:
        first = nn.Sequential(first, _Activation(ACTIVATIONS[activation]))
    second = layer("outer", output.weight, output.bias, stream)
    return PackedPostNorm(packed, block.attention_norm, first, second, block.feed_forward_norm)


def _linears(module: Any, dtype: torch.dtype) -> Any:
    """Packs every linear layer below a module that is not packed yet."""
    if not can_pack(dtype):
        return module
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                setattr(part, name, PackedLinear(child.weight, child.bias, dtype))
    return module


class _Activation(nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = apply

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)
