"""Attention for inference: queries, keys and values are one product, and each rectangle a few large operations.

Where there is a kernel of ours (`kernels`), it takes all sequences in one call. Elsewhere torch's operators do: softmax
is the dearest part of it in torch on a processor. So exponentials are taken of the scores as they are, multiplied by
the values and divided by their sum afterwards: the same numbers without looking for the largest score first. Where the
sums show that the exponentials came near the ends of what can be written, softmax is taken after all. In float32
torch's fused kernel is faster, but for short sequences.

Shapes: T tokens, H heads, K head width, D = H · K; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import Rectangle
from bothways.model.kernels.compiled import kernels
from bothways.model.parts.attend import Score, split
from bothways.model.parts.attention import Attention
from bothways.model.parts.buckets import Biases, BucketAttention
from bothways.model.parts.context import Context
from bothways.model.parts.near_lengths import Group, groups
from bothways.run.engines.packed.feed_forward import Summing

_LEAST, _MOST = 1e-30, 1e35
"""Sums of exponentials between which nothing was lost or grew beyond measure."""
_LONG, _SHORT = 32, 16
"""Tokens from which the fused kernel is faster in float32, and below which its softmax is slow."""


class PackedAttention(nn.Module):
    """Takes the place of an `Attention`, or of one that adds a score of its own.

    Args:
        attention: What it is made of.
        qkv: Its `scaled` queries, keys and values as one layer.
        output: Its last layer.
        rounded: Whether queries, keys and values may be rounded to whole numbers.
    """

    def __init__(self, attention: Attention, qkv: nn.Module, output: Summing, rounded: bool = False) -> None:
        super().__init__()
        self.heads = attention.heads
        self.score = attention.score
        self.qkv, self.output = qkv, output
        self._plain = type(attention) is Attention
        self._by_distance = type(attention) is BucketAttention
        self._rounded = rounded

    def mixed(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """The mixed values ``(T, D)``, before the last product."""
        qkv_T3D = self.qkv(x_TD)
        heads, score = self.heads, self.score(context, layer)
        kernel = kernels() if self._plain or self._by_distance else None
        kind = qkv_T3D.dtype, qkv_T3D.shape[1] // (3 * heads)
        whole = self._rounded and kernel is not None and kernel.mixes_whole(*kind)
        if kernel is not None and (whole or kernel.mixes(*kind)):
            bias = by_distance(context.prepared) if self._by_distance else None
            return kernel.attention(qkv_T3D.chunk(3, 1), context.starts, heads, bias=bias, whole=whole)
        pieces = split(context.plan, heads)
        if len(pieces) == 1:
            return _piece(qkv_T3D, pieces[0], heads, score)
        out_TD = qkv_T3D.new_empty(len(qkv_T3D), qkv_T3D.shape[1] // 3)
        alone, longer = ([piece for piece in pieces if (piece.length == 1) is single] for single in (True, False))
        together: Sequence[Rectangle | Group] = longer
        if len(longer) > 1:
            together = groups(tuple(longer), heads)
        for piece in (*alone, *together):
            rows = slice(piece.start, piece.start + piece.tokens)
            out_TD[rows] = _piece(qkv_T3D[rows], piece, heads, score)
        return out_TD


def scaled(attention: Attention) -> tuple[Tensor, Tensor | None]:
    """``(3 · D, D)`` and ``(3 · D,)``: query, key and value as one layer; queries bear the scale of the products."""
    width = attention.query.in_features // attention.heads
    factor = 1 / math.sqrt(width) if attention.scale is None else attention.scale
    layers = (attention.query, attention.key, attention.value)
    factors = (factor, 1.0, 1.0)
    weight = torch.cat([layer.weight.detach() * by for layer, by in zip(layers, factors, strict=True)])
    if attention.query.bias is None:
        return weight, None
    return weight, torch.cat([layer.bias.detach() * by for layer, by in zip(layers, factors, strict=True)])


def by_distance(biases: Biases) -> Tensor:
    """``(H, 2 · L - 1)`` float32: what `BucketAttention` adds, by a key's place minus the query's."""
    bias_HLL = biases[max(biases)].float()
    return torch.cat((bias_HLL[:, -1], bias_HLL[:, 0, 1:]), 1).contiguous()


def _piece(qkv: Tensor, piece: Rectangle | Group, heads: int, score: Score | None) -> Tensor:
    """The mixed values ``(T, D)`` of one rectangle."""
    if isinstance(piece, Group):
        padded, mask = qkv.index_select(0, piece.places), piece.mask.to(qkv.dtype)
        return _padded(padded, piece.shape, heads, score, mask).index_select(0, piece.real)
    if piece.length == 1:  # a token alone is given its own value
        return qkv[:, -(qkv.shape[1] // 3) :]
    return _padded(qkv, (piece.sequences, piece.length), heads, score, None)


def _padded(qkv: Tensor, shape: tuple[int, int], heads: int, score: Score | None, mask: Tensor | None) -> Tensor:
    """The mixed values ``(N · L, D)`` of a rectangle of N sequences."""
    by_head = qkv.view(*shape, 3, heads, -1).permute(2, 0, 3, 1, 4)  # (3, N, H, L, K)
    fused = qkv.dtype == torch.float32 and shape[1] >= _LONG
    q, k, v = (by_head if fused else by_head.contiguous()).unbind(0)
    mixed = (_fused if fused else _plain)(q, k, v, score, mask)
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def _fused(q: Tensor, k: Tensor, v: Tensor, score: Score | None, mask: Tensor | None) -> Tensor:
    added = mask if score is None else score(q, k) if mask is None else score(q, k) + mask
    if added is not None:
        added = added.expand(torch.broadcast_shapes(added.shape, (1, 1, q.shape[2], q.shape[2])))
    return functional.scaled_dot_product_attention(q, k, v, added, scale=1.0)


def _plain(q: Tensor, k: Tensor, v: Tensor, score: Score | None, mask: Tensor | None) -> Tensor:
    def scores() -> Tensor:
        found = q @ k.transpose(-1, -2)
        return found if score is None else found.add_(score(q, k))

    return _mix(scores, v, mask)


def _mix(scores: Callable[[], Tensor], v: Tensor, mask: Tensor | None) -> Tensor:
    """The values ``(N, H, L, K)`` in the shares that the scores ``(N, H, L, L)`` say.

    Args:
        scores: Makes them.
        v: ``(N, H, L, K)``.
        mask: ``(N, 1, 1, L)`` 0 at tokens, -inf at padding; None: there is none.
    """
    if v.dtype != torch.float32 or v.shape[2] < _SHORT:
        raised = scores().exp_()
        counted = raised.new_ones(raised.shape[-1], 1) if mask is None else mask.exp().transpose(-1, -2)
        sums = raised @ counted
        least, most = sums.aminmax()
        if least > _LEAST and most < _MOST:  # false where one is not a number
            return (raised @ (v if mask is None else v * counted)).div_(sums)
    found = scores()
    return torch.softmax(found if mask is None else found.add_(mask), -1) @ v
