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
from bothways.model.kernels.compiled import kernels
from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock
from bothways.model.parts.buckets import BucketAttention
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.embeddings import Embeddings
from bothways.model.parts.feed_forward import ACTIVATIONS, FeedForward
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.attention import PackedAttention, scaled
from bothways.run.engines.packed.block import PackedPostNorm
from bothways.run.engines.packed.calibrate import AFTER_NORM, MIXED, Smoothing, others
from bothways.run.engines.packed.feed_forward import PackedFeedForward, SplitFeedForward
from bothways.run.engines.packed.int8 import InputScale, Int8Linear
from bothways.run.engines.packed.linear import FUSED, PackedLinear, can_pack
from bothways.run.engines.packed.norm import PackedEmbeddings, PackedNorm

_PLAIN = (Attention, BucketAttention, CausalAttention)
"""Attention whose scores may be scaled before they are made."""


def pack(parts: Parts, dtype: torch.dtype, scales: Mapping[str, InputScale] | None = None) -> Parts:
    """Packs an encoder and its heads.

    Args:
        parts: Of a model on a processor.
        dtype: What the encoder multiplies: float32 or bfloat16; heads stay in float32.
        scales: For layers that are to multiply in int8, by the names of `layers`, the scales of their inputs.
    """
    encoder = shared_copy(parts.encoder)
    packed = [_block(block, f"block {place}", dtype, scales or {}) for place, block in enumerate(encoder.stack.blocks)]
    encoder.stack.blocks = nn.ModuleList(packed)
    kernel, first = kernels(), encoder.embeddings
    if kernel is not None and type(first) is Embeddings and kernel.looks_up(first.tokens.weight):
        encoder.embeddings = PackedEmbeddings(first, kernel)
    _linears(encoder, dtype)
    heads = {kind: _linears(shared_copy(head), torch.float32) for kind, head in parts.heads.items()}
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


def shared_copy(module: Any) -> Any:
    """Another module with the same tensors and functions."""
    shared = {id(value): value for value in (*module.parameters(), *module.buffers(), *ACTIVATIONS.values())}
    return copy.deepcopy(module, shared)


def _usual(block: Any) -> bool:
    if type(block) is not PostNormBlock or type(block.attention) not in _PLAIN:
        return False
    attention, feed_forward = block.attention, block.feed_forward
    linear = (attention.query, attention.key, attention.value, attention.output)
    return type(feed_forward) is FeedForward and all(
        type(layer) is nn.Linear for layer in (*linear, feed_forward.inner, feed_forward.output)
    )


def _block(block: Any, name: str, dtype: torch.dtype, scales: Mapping[str, InputScale]) -> nn.Module:
    if not _usual(block) or not can_pack(dtype):
        return block
    attention = block.attention
    mixed = scales.get(f"{name} mixed")
    packed = PackedAttention(
        attention,
        _layer(*scaled(attention), dtype, scales.get(f"{name} queries")),
        _layer(attention.output.weight, attention.output.bias, dtype, mixed, torch.float32 if scales else dtype),
    )
    feed_forward = _feed_forward(block.feed_forward, dtype, scales.get(f"{name} inner"), scales.get(f"{name} outer"))
    return PackedPostNorm(packed, block.attention_norm, feed_forward, block.feed_forward_norm)


def _layer(
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    scale: InputScale | None,
    out: torch.dtype | None = None,
    activation: str | None = None,
    gives: InputScale | None = None,
) -> Any:
    """A packed layer that multiplies in `dtype`, or in int8 where its input has a scale."""
    fused = activation if activation in FUSED else None
    layer = (
        PackedLinear(weight, bias, dtype, fused)
        if scale is None
        else Int8Linear(weight, bias, scale, out or dtype, fused, gives if fused else None)
    )
    return layer if fused or activation is None else nn.Sequential(layer, _Activation(ACTIVATIONS[activation]))


def _feed_forward(
    layers: FeedForward, dtype: torch.dtype, inner: InputScale | None, outer: InputScale | None
) -> PackedFeedForward | SplitFeedForward:
    activation = next(known for known, apply in ACTIVATIONS.items() if apply is layers.activation)
    (first, bias), (second, last) = ((one.weight.detach(), one.bias) for one in (layers.inner, layers.output))
    if outer is None:
        return PackedFeedForward(_layer(first, bias, dtype, inner, None, activation), _layer(second, last, dtype, None))
    assert outer.apart is not None
    most = others(outer.apart, len(first))
    many, few = ((first[at], None if bias is None else bias.detach()[at]) for at in (most, outer.apart))
    return SplitFeedForward(
        PackedFeedForward(
            _layer(*many, dtype, inner, None, activation, outer),
            _layer(second[:, most], last, dtype, outer, torch.float32),
        ),
        PackedFeedForward(
            _layer(*few, torch.float32, None, None, activation),
            _layer(second[:, outer.apart], None, torch.float32, None),
        ),
    )


def _linears(module: Any, dtype: torch.dtype) -> Any:
    """Packs every linear layer below a module that is not packed yet, and norms where there is a kernel for them."""
    if not can_pack(dtype):
        return module
    kernel = kernels()
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                setattr(part, name, PackedLinear(child.weight, child.bias, dtype))
            elif type(child) is nn.LayerNorm and kernel is not None:
                setattr(part, name, PackedNorm(child, kernel))
    return module


class _Activation(nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = apply

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)
