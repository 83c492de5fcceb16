"""From a model's modules to packed ones: the same structure with other layers in it.

Blocks of the usual kind become `PackedPostNorm`; in all others, and in heads, each linear layer is packed by itself, so
every family runs. Nothing of the original is changed, and what is not packed (tables, norms) is shared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bothways.model.encoder import Encoder
from bothways.model.kernels.compiled import kernels
from bothways.model.kernels.functions import Kernels
from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock
from bothways.model.parts.buckets import BucketAttention
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.embeddings import Embeddings
from bothways.model.parts.feed_forward import ACTIVATIONS, FeedForward
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.attention import PackedAttention, scaled
from bothways.run.engines.packed.block import PackedPostNorm
from bothways.run.engines.packed.calibrate import Layer
from bothways.run.engines.packed.feed_forward import PackedFeedForward
from bothways.run.engines.packed.int8 import Int8Linear, Rounded
from bothways.run.engines.packed.int16 import Int16Linear, can_int16, multiplies_shorts
from bothways.run.engines.packed.linear import FUSED, PackedLinear, can_pack
from bothways.run.engines.packed.norm import PackedEmbeddings, PackedNorm

_PLAIN = (Attention, BucketAttention, CausalAttention)
"""Attention whose scores may be scaled before they are made."""


def pack(
    parts: Parts,
    dtype: torch.dtype,
    rounded: Mapping[str, Rounded] | None = None,
    between: torch.dtype | None = None,
    kept: Collection[str] = (),
) -> Parts:
    """Packs an encoder and its heads.

    Args:
        parts: Of a model on a processor.
        dtype: What the encoder multiplies: float32, bfloat16 or int16; heads stay in float32.
        rounded: For layers that are to multiply in int8, by the names of `layers`, what their weights became.
        between: What passes between the layers of blocks, if not what is usually `passed`: float16 where an encoder
            `keeps_halves`.
        kept: Layers that multiply in float32 all the same, by their names in `sizes`.
    """
    usual = passed(dtype)
    encoder, between = shared_copy(parts.encoder), between or usual
    stack = encoder.stack
    packed = [
        _block(block, f"block {at}", dtype, between, rounded or {}, kept) for at, block in enumerate(stack.blocks)
    ]
    stack.blocks = nn.ModuleList(packed)
    kernel, first = kernels(), encoder.embeddings
    if kernel is not None and type(first) is Embeddings and kernel.looks_up(first.tokens.weight):
        encoder.embeddings = PackedEmbeddings(first, kernel, None if between == usual else between)
    _linears(encoder, dtype, between, kept)
    if between == torch.float16:
        stack.norm = _Widened()
    heads = {kind: _linears(shared_copy(head), torch.float32) for kind, head in parts.heads.items()}
    return Parts(encoder, heads, parts.head_configs, parts.encoder)


def passed(dtype: torch.dtype) -> torch.dtype:
    """What passes between layers that multiply in a type: the same, float32 where they multiply whole numbers."""
    return torch.float32 if dtype == torch.int16 else dtype


def keeps_halves(encoder: Encoder) -> bool:
    """Whether what passes between layers in int8 can be float16, which has digits enough and is half of float32.

    Only our own kernels read and write it, so every block must be theirs. Norms keep it within its range.
    """
    kernel, first = kernels(), encoder.embeddings
    if kernel is None or not kernel.levels or type(first) is not Embeddings:
        return False
    stack = encoder.stack
    alone = stack.norm is None and stack.convolution is None
    return alone and kernel.looks_up(first.tokens.weight) and all(_halves(block, kernel) for block in stack.blocks)


def _halves(block: Any, kernel: Kernels) -> bool:
    if not _usual(block) or type(block.attention) is CausalAttention:
        return False
    query, feed_forward = block.attention.query, block.feed_forward
    mixes = kernel.mixes_whole(torch.float16, query.in_features // block.attention.heads)
    return mixes and kernel.multiplies(feed_forward.inner.weight, _activation(feed_forward))


def layers(encoder: Encoder) -> dict[str, Layer]:
    """The layers that can multiply in int8, by name."""
    found: dict[str, Layer] = {}
    for place, block in enumerate(encoder.stack.blocks):
        if _usual(block):
            attention: Any = block.attention
            feed_forward: Any = block.feed_forward
            found[f"block {place} queries"] = Layer(attention.query, scaled(attention)[0])
            others = {"mixed": attention.output, "inner": feed_forward.inner, "outer": feed_forward.output}
            for name, layer in others.items():
                found[f"block {place} {name}"] = Layer(layer, layer.weight)
    return found


def sizes(encoder: Encoder) -> dict[str, int]:
    """How many weights each linear layer has: those of `layers` by their names there, others by their modules'."""
    found = {name: layer.weight.numel() for name, layer in layers(encoder).items()}
    named = [f"stack.blocks.{place}." for place, block in enumerate(encoder.stack.blocks) if _usual(block)]
    for name, module in encoder.named_modules():
        if type(module) is nn.Linear and not name.startswith(tuple(named)):
            found[name] = module.weight.numel()
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


def _activation(feed_forward: Any) -> str:
    return next(known for known, apply in ACTIVATIONS.items() if apply is feed_forward.activation)


def _block(
    block: Any,
    name: str,
    dtype: torch.dtype,
    between: torch.dtype,
    rounded: Mapping[str, Rounded],
    kept: Collection[str],
) -> nn.Module:
    if not _usual(block) or not _can(dtype):
        return block

    kernel = kernels()
    halves = dtype == torch.int16 and kernel is not None and _halves(block, kernel)  # they lose less than rounding does
    inside = torch.float16 if halves else between

    def layer(part: str, out: torch.dtype, weight: Tensor, bias: Tensor | None, activation: str | None = None) -> Any:
        multiplied = torch.float32 if f"{name} {part}" in kept else dtype
        return _layer(weight, bias, multiplied, out, rounded.get(f"{name} {part}"), activation)

    attention, inner, outer = block.attention, block.feed_forward.inner, block.feed_forward.output
    activation = _activation(block.feed_forward)
    queries = layer("queries", inside, *scaled(attention))
    mixed = layer("mixed", between, attention.output.weight, attention.output.bias)
    feed_forward = PackedFeedForward(
        layer("inner", inside, inner.weight, inner.bias, activation),
        layer("outer", between, outer.weight, outer.bias),
    )
    whole = dtype == torch.int16 or between == torch.float16 or f"{name} queries" in rounded
    return PackedPostNorm(
        PackedAttention(attention, queries, mixed, whole),
        block.attention_norm,
        feed_forward,
        block.feed_forward_norm,
    )


def _layer(
    weight: Tensor,
    bias: Tensor | None,
    dtype: torch.dtype,
    between: torch.dtype,
    rounded: Rounded | None,
    activation: str | None,
) -> Any:
    """A packed layer that multiplies in `dtype`, or in int8 where its weight was rounded, and gives `between`."""
    fused = activation if activation in FUSED else None
    layer: nn.Module = (
        _linear(weight, bias, dtype, between, fused)
        if rounded is None
        else Int8Linear(weight, bias, rounded, between, fused)
    )
    return layer if fused or activation is None else nn.Sequential(layer, _Activation(ACTIVATIONS[activation]))


def _linear(
    weight: Tensor, bias: Tensor | None, dtype: torch.dtype, out: torch.dtype | None, activation: str | None = None
) -> nn.Module:
    if dtype != torch.int16:
        return PackedLinear(weight, bias, dtype, activation, out)
    if multiplies_shorts(kernels(), weight, activation):
        return Int16Linear(weight, bias, out or torch.float32, activation)
    return PackedLinear(weight, bias, torch.float32, activation, out)


def _can(dtype: torch.dtype) -> bool:
    return can_int16() if dtype == torch.int16 else can_pack(dtype)


def _linears(module: Any, dtype: torch.dtype, out: torch.dtype | None = None, kept: Collection[str] = ()) -> Any:
    """Packs every linear layer below a module that is not packed yet, and norms where there is a kernel for them."""
    if not _can(dtype):
        return module
    kernel = kernels()
    for path, part in list(module.named_modules()):
        for name, child in list(part.named_children()):
            if type(child) is nn.Linear:
                multiplied = torch.float32 if f"{path}.{name}".removeprefix(".") in kept else dtype
                setattr(part, name, _linear(child.weight, child.bias, multiplied, out))
            elif type(child) is nn.LayerNorm and kernel is not None:
                setattr(part, name, PackedNorm(child, kernel))
    return module


class _Activation(nn.Module):
    def __init__(self, apply: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = apply

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class _Widened(nn.Module):
    """What the last block gives, as heads and pooling want it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()
