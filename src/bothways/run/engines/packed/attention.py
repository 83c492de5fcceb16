"""Attention for inference: queries, keys and values are one product, and each rectangle a few large operations.

Softmax is the dearest part for short sequences in torch on a processor. Where the scores are small enough that their
exponentials can be summed as they are, which a bound on the lengths of queries and keys tells, the exponentials are
multiplied by the values and divided by their sum afterwards: the same numbers without looking for the largest first.

Shapes: T tokens, H heads, K head width, D = H · K; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from bothways.batch import Rectangle
from bothways.model.parts.attend import Score, split
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.model.parts.near_lengths import Group, groups
from bothways.run.engines.packed.feed_forward import Summing

_FEW = 128
"""Tokens for which looking for the bound takes longer than softmax does."""
_SAFE = 60.0
"""Scores up to this size: their exponentials, and sums of thousands of them, are far from the ends of float32."""


class PackedAttention(nn.Module):
    """Takes the place of an `Attention`, or of one that adds a score of its own.

    Args:
        attention: What it is made of.
        qkv: Its `scaled` queries, keys and values as one layer.
        output: Its last layer.
    """

    def __init__(self, attention: Attention, qkv: nn.Module, output: Summing) -> None:
        super().__init__()
        self.heads = attention.heads
        self.score = attention.score
        self.qkv, self.output = qkv, output

    def mixed(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """The mixed values ``(T, D)``, before the last product."""
        qkv_T3D = self.qkv(x_TD)
        heads, score = self.heads, self.score(context, layer)
        seeks = len(qkv_T3D) > _FEW and qkv_T3D.dtype != torch.float32  # whose softmax is fast
        bound = _bound(qkv_T3D, heads) if seeks else math.inf
        out_TD = qkv_T3D[:, -(qkv_T3D.shape[1] // 3) :].clone()  # a token alone is given its own value
        longer = [piece for piece in split(context.plan, heads) if piece.length > 1]
        for piece in groups(tuple(longer), heads) if score is None and len(longer) > 1 else longer:
            rows = slice(piece.start, piece.start + piece.tokens)
            if isinstance(piece, Group):
                out_TD[rows] = _group(qkv_T3D[rows], piece, heads, bound)
            else:
                out_TD[rows] = _rectangle(qkv_T3D[rows], piece, heads, score, bound)
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


def _bound(qkv_T3D: Tensor, heads: int) -> float:
    """No product of a query and a key is larger: the longest query times the longest key."""
    q_k = qkv_T3D[:, : 2 * (qkv_T3D.shape[1] // 3)].unflatten(1, (2, heads, -1))
    longest = torch.linalg.vector_norm(q_k, dim=-1, dtype=torch.float32).amax((0, 2)) if len(q_k) else torch.zeros(2)
    return float(longest[0] * longest[1])


def _rectangle(qkv: Tensor, piece: Rectangle, heads: int, score: Score | None, bound: float) -> Tensor:
    shaped = qkv.view(piece.sequences, piece.length, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
    q, k, v = shaped.unbind(0)  # each (N, H, L, K)
    scores = q @ k.transpose(-1, -2)
    if score is not None:
        scores += score(q, k)
    return _mix(scores, v, bound if score is None else math.inf).transpose(1, 2).flatten(2).flatten(0, 1)


def _group(qkv: Tensor, group: Group, heads: int, bound: float) -> Tensor:
    padded = qkv.index_select(0, group.places).view(*group.shape, 3, heads, -1).permute(2, 0, 3, 1, 4).contiguous()
    q, k, v = padded.unbind(0)
    scores = q @ k.transpose(-1, -2)
    scores += group.mask.to(scores.dtype)
    return _mix(scores, v, bound).transpose(1, 2).flatten(2).flatten(0, 1).index_select(0, group.real)


def _mix(scores: Tensor, v: Tensor, bound: float) -> Tensor:
    """The values ``(N, H, L, K)`` in the shares that the scores ``(N, H, L, L)`` say; the scores are overwritten."""
    if bound > _SAFE:
        return torch.softmax(scores, -1) @ v
    raised = scores.exp_()
    sums = raised.sum(-1, keepdim=True, dtype=torch.float32)
    return (raised @ v) / sums.to(v.dtype)
