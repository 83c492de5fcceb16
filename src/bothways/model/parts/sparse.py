"""Block-sparse attention: near blocks, the two blocks at the ends, and random ones.

Zaheer et al. 2020, "Big Bird: Transformers for Longer Sequences", section 2, with blocks as its appendix D lays them
out: the first and the last block look at everything, and every block looks at them, at itself, at its two neighbours
and at a few random blocks. The time is linear in a sequence's length.

Shapes: T tokens, H heads, K head width, D = H · K model width; N sequences of L tokens in a rectangle; B blocks of Z
tokens in a sequence (the last may be shorter), M = B - 2 of them in the middle, each looking at J blocks by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from bothways.batch import Rectangle
from bothways.chance import generator
from bothways.model.parts.attend import attend
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.model.parts.devices import sent

_MOST_NUMBERS = 2**24
"""A rectangle is split so that its attention weights, or its gathered keys, are at most this many numbers at a time."""


@lru_cache(maxsize=4096)
def random_blocks(seed: int, layer: int, heads: int, blocks: int, count: int) -> np.ndarray:
    """Which blocks the middle blocks look at by chance: distinct, neither neighbours nor at the ends.

    A pure function of its arguments: the same in every step, process and run.

    Args:
        seed: Of the encoder.
        layer: From 0; each has its own blocks.
        heads: H; each has its own blocks.
        blocks: B, at least `count` + 5.
        count: Random blocks for each block.

    Returns:
        ``(H, M, count)`` numbers of blocks.
    """
    middle = np.arange(1, blocks - 1)
    chances = generator("random blocks", seed, layer, blocks).random((heads, len(middle), len(middle)))
    chances[:, np.abs(middle[:, None] - middle) <= 1] = 2.0  # behind all others
    return middle[np.argsort(chances, axis=-1)[..., :count]]


@dataclass(frozen=True)
class Pattern:
    """What the middle blocks of a sequence look at, beside its first and last block.

    Attributes:
        table: ``(H or 1, M, J)`` numbers of blocks, never the last.
        seen: ``(H or 1, M, J)`` whether an entry counts.
        first: How many times the first block counts.
    """

    table: np.ndarray
    seen: np.ndarray
    first: int = 1

    @classmethod
    def of(cls, blocks: int, chosen: np.ndarray | None = None, first: int = 1) -> Pattern:
        """Each middle block looks at itself, at its neighbours and at chosen blocks.

        Args:
            blocks: B, at least 3.
            chosen: ``(H, M, R)`` numbers of blocks.
            first: How many times the first block counts.
        """
        table = (np.arange(1, blocks - 1)[:, None] + (-1, 0, 1))[None]
        seen = (table > 0) & (table < blocks - 1)  # the blocks at the ends are looked at anyway
        table = np.where(seen, table, 1)
        if chosen is not None:
            wide = (len(chosen), *table.shape[1:])
            table = np.concatenate((np.broadcast_to(table, wide), chosen), axis=-1)
            seen = np.concatenate((np.broadcast_to(seen, wide), np.ones(chosen.shape, dtype=bool)), axis=-1)
        return cls(table, seen, first)

    def score(self, length: int, block: int, like: Tensor) -> Tensor:
        """The same pattern for full attention: what is added to all scores of a sequence.

        Args:
            length: L.
            block: Z.
            like: Says the type and the device.

        Returns:
            ``(H or 1, L, L)``: the logarithm of how many times a token counts for another.
        """
        heads, middle, _ = self.table.shape
        counts = np.ones((heads, middle + 2, middle + 2))
        counts[:, 1:-1, 1:-1] = 0
        counts[:, 1:-1, 0] = self.first
        head, row, place = np.nonzero(self.seen)
        np.add.at(counts, (head, row + 1, self.table[head, row, place]), 1)
        block_of = torch.arange(length, device=like.device) // block
        return torch.from_numpy(counts).log().to(like)[:, block_of[:, None], block_of]


def attend_by_blocks(q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, length: int, block: int, pattern: Pattern) -> Tensor:
    """Attention where blocks of tokens look at a few blocks only.

    The keys and values of those blocks are gathered, so that dense products do the rest.

    Args:
        q_THK: ``(N · L, H, K)`` queries of a rectangle.
        k_THK: ``(N · L, H, K)`` keys.
        v_THK: ``(N · L, H, K)`` values.
        length: L.
        block: Z.
        pattern: Which blocks they are, for sequences of L tokens.

    Returns:
        ``(N · L, H, K)``.
    """
    heads, width = q_THK.shape[1:]
    most = heads * length * (pattern.table.shape[-1] + 2) * max(block, width)
    step = max(1, _MOST_NUMBERS // most)
    rectangles = (x.unflatten(0, (-1, length)).transpose(1, 2).split(step) for x in (q_THK, k_THK, v_THK))
    out = [_rectangle(q, k, v, block, pattern) for q, k, v in zip(*rectangles, strict=True)]
    return torch.cat(out).transpose(1, 2).flatten(0, 1)


def _rectangle(q: Tensor, k: Tensor, v: Tensor, block: int, pattern: Pattern) -> Tensor:
    """From ``(N, H, L, K)`` to the same."""
    q = q / math.sqrt(q.shape[-1])
    last = (-(-q.shape[2] // block) - 1) * block
    ends_q, ends_k, ends_v = (torch.cat((x[:, :, :block], x[:, :, last:]), dim=2) for x in (q, k, v))
    mixed_ends = torch.softmax(ends_q @ k.transpose(-1, -2), dim=-1) @ v

    q = q[:, :, block:last]
    near_k, near_v = (_gathered(x[:, :, :last].unflatten(2, (-1, block)), pattern) for x in (k, v))
    to_ends = q @ ends_k.transpose(-1, -2)
    to_near = q.unflatten(2, (-1, block)) @ near_k.transpose(-1, -2)  # (N, H, M, Z, J · Z)
    if pattern.first > 1:
        to_ends = torch.cat((to_ends[..., :block] + math.log(pattern.first), to_ends[..., block:]), dim=-1)
    unseen = sent(~pattern.seen, q.device).repeat_interleave(block, dim=-1)[:, :, None]
    to_near = to_near.masked_fill(unseen, -math.inf).flatten(2, 3)
    shares = torch.softmax(torch.cat((to_ends, to_near), dim=-1), dim=-1)
    ends, near = shares.split((to_ends.shape[-1], to_near.shape[-1]), dim=-1)
    mixed = ends @ ends_v + (near.unflatten(2, (-1, block)) @ near_v).flatten(2, 3)
    return torch.cat((mixed_ends[:, :, :block], mixed, mixed_ends[:, :, block:]), dim=2)


def _gathered(x: Tensor, pattern: Pattern) -> Tensor:
    """From all blocks but the last ``(N, H, B - 1, Z, K)`` to those of the pattern, ``(N, H, M, J · Z, K)``."""
    sequences, heads, blocks = x.shape[:3]
    first_NH11 = (torch.arange(sequences * heads, device=x.device) * blocks).view(sequences, heads, 1, 1)
    rows_NHMJ = first_NH11 + sent(pattern.table, x.device)
    chosen = x.flatten(3).flatten(0, 2).index_select(0, rows_NHMJ.flatten())
    return chosen.view(*rows_NHMJ.shape, *x.shape[3:]).flatten(3, 4)


class SparseAttention(Attention):
    """Block-sparse attention for long sequences, full attention for those too short to gain from it.

    Which one it is, is decided for each sequence. In training every middle block looks at random blocks of its own; in
    evaluation the first block counts that many times more instead, as in the reference implementation, whose random
    numbers are all 0 then. As there, no attention weights are dropped in long sequences.

    Args:
        width: D.
        heads: H.
        dropout: Share of attention weights dropped in training, in short sequences.
        bias: Whether the projections have biases.
        block: Z.
        random_blocks: Random blocks that each block looks at.
        seed: Of their choice.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, bias: bool, block: int, random_blocks: int, seed: int
    ) -> None:
        super().__init__(width, heads, dropout, bias)
        self.block, self.random_blocks, self.seed = block, random_blocks, seed

    @property
    def longest_full(self) -> int:
        """The most tokens of a sequence in which every token looks at every other."""
        return (5 + 2 * self.random_blocks) * self.block

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """Mixes the tokens of each sequence; arguments as in `Attention`."""
        qkv = self.project(x_TD, context, layer)
        sizes = [sequences * length for _, sequences, length in context.plan]
        parts = zip(context.plan, *(x.split(sizes) for x in qkv), strict=True)
        mixed = [self._mixed(piece, q, k, v, layer, context.weights(layer)) for piece, q, k, v in parts]
        return self.output(context.wanted((torch.cat(mixed) if mixed else qkv[0]).flatten(1)))

    def _mixed(
        self, piece: Rectangle, q: Tensor, k: Tensor, v: Tensor, layer: int, weights: list[Tensor] | None
    ) -> Tensor:
        """The attention of one rectangle, ``(N · L, H, K)``."""
        alone = (piece._replace(start=0),)
        if piece.length <= self.longest_full:
            return attend(q, k, v, alone, dropout=self.dropout if self.training else 0.0, weights=weights)
        pattern = self.pattern(-(-piece.length // self.block), layer)
        if weights is None:
            return attend_by_blocks(q, k, v, piece.length, self.block, pattern)
        added = pattern.score(piece.length, self.block, q)  # weights for all pairs were asked for
        return attend(q, k, v, alone, score=lambda q, k: added, weights=weights)

    def pattern(self, blocks: int, layer: int) -> Pattern:
        """What the middle blocks of a sequence of so many blocks look at, now."""
        if not self.training or not self.random_blocks:
            return Pattern.of(blocks, first=1 + self.random_blocks)
        return Pattern.of(blocks, random_blocks(self.seed, layer, self.heads, blocks, self.random_blocks))
