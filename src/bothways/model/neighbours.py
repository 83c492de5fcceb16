"""Heads that begin by looking at their neighbours, so that pre-training does not stall.

With random weights a token sees all others alike, and what stands beside a masked one is a small part of what it is
told. Attention finds out slowly that places matter, and until then an encoder guesses by the frequencies of words
alone: the plateau of BERT's first thousands of steps. Here positions begin as sines and cosines, in which a shift by
some places is a rotation, and the first heads of the first layer begin with queries that are turned by one place or
two. Where distances have keys of their own (DeBERTa), the biases of these heads' queries ask for them. All of it is
learned further; nothing but the first numbers is different.

That heads can look at a fixed shift: Cordonnier et al. 2020, "On the Relationship between Self-Attention and
Convolutional Layers", section 3. To begin so: d'Ascoli et al. 2021, "ConViT"; Trockman and Kolter 2023, "Mimetic
Initialization of Self-Attention Layers".

Shapes: P rows of the position table, E its width, F = E / 2 frequencies, D the encoder's width, H heads, K head width.
"""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.encoder import Encoder
from bothways.model.parts.attention import Attention
from bothways.model.parts.causal import CausalAttention
from bothways.model.parts.disentangled import DisentangledAttention, FusedDisentangledAttention
from bothways.model.parts.distances import DistanceTable, row_of
from bothways.model.parts.embeddings import Embeddings

AttentionStart = Literal["neighbours", "random"]
SHIFTS, BACKWARDS = (-1, 1, -2, 2), (-1, -2, -3, -4)
"""Where the first heads look: places after their own. And where no later one is seen."""
LOUDNESS, PEAK = 1.15, 6.0
"""Size of the positions beside that of the tokens; and the score of the place that is looked at, where others have
about 0."""
_CARRIED = 4
"""One value in so many carries positions, where the encoder is narrower than its tables."""


def begin_attention(encoder: Encoder, start: AttentionStart | None) -> None:
    """Gives an encoder with random weights, on a processor, the start that is asked for; None: the better it can have.

    Raises:
        BothwaysError: It cannot have it.
    """
    check_attention_start(encoder, start)
    if start != "random":
        look_at_neighbours(encoder)


def check_attention_start(encoder: Encoder, start: AttentionStart | None) -> None:
    """Refuses a start that an encoder cannot have.

    Raises:
        BothwaysError: It cannot.
    """
    if start == "neighbours" and not tells_neighbours(encoder):
        raise BothwaysError(
            f"a {encoder.config.family} encoder of this shape has nothing to tell neighbours by; take attention_start "
            "random"
        )


def tells_neighbours(encoder: Encoder) -> bool:
    """Whether learned positions are added to tokens, or distances have keys of their own that a bias can ask for."""
    attention = first_attention(encoder)
    if isinstance(attention, DisentangledAttention):
        return attention.content_to_position and _query_bias(attention) is not None
    embeddings = cast(Embeddings, encoder.embeddings)
    if not isinstance(attention, Attention) or embeddings.positions is None or not embeddings.positions_added:
        return False
    return embeddings.positions.embedding_dim % 2 == 0 and encoder.config.width >= 2 * attention.heads


def first_attention(encoder: Encoder) -> nn.Module:
    """That of the first layer."""
    return cast(nn.Module, encoder.stack.blocks[encoder.stack.schedule[0]].attention)


@torch.no_grad()
def look_at_neighbours(encoder: Encoder) -> bool:
    """Changes what tells the first heads of an encoder with random weights, on a processor, where to look.

    Returns:
        Whether it `tells_neighbours`; if not, nothing is changed.
    """
    if not tells_neighbours(encoder):
        return False
    attention = first_attention(encoder)
    if isinstance(attention, DisentangledAttention):
        _by_distances(encoder, attention)
    else:
        embeddings = cast(Embeddings, encoder.embeddings)
        _by_positions(encoder, embeddings, cast(nn.Embedding, embeddings.positions), cast(Attention, attention))
    return True


def _by_positions(encoder: Encoder, embeddings: Embeddings, table: nn.Embedding, attention: Attention) -> None:
    """Writes the positions, and the first heads' queries and keys."""
    rows, wide = table.weight.shape
    half, heads, width = wide // 2, attention.heads, encoder.config.width // attention.heads
    frequencies = math.pi * (torch.arange(half) + 0.5) / half
    size = LOUDNESS * encoder.config.init_std * math.sqrt(2)
    table.weight.copy_(size * waves(torch.arange(rows), frequencies))
    added = 1 if embeddings.segments is None else 2  # tables of the size of the tokens'
    share = LOUDNESS**2 / (LOUDNESS**2 + added)  # of the variance that positions have behind the norm
    frequencies, taken_FD = _heard(encoder, embeddings.projection, frequencies)
    shifts = (BACKWARDS if isinstance(attention, CausalAttention) else SHIFTS)[:heads]
    scale = 1 / math.sqrt(width) if attention.scale is None else attention.scale
    step = max(1, min(len(shifts), len(frequencies) // (width // 2)))
    for head, shift in enumerate(shifts):
        chosen = spread(head % step, step, len(frequencies), width // 2)
        gain = math.sqrt(PEAK / (scale * 2 * len(chosen) * share))
        place = slice(head * width, head * width + 2 * len(chosen))
        for layer, turn in ((attention.query, shift), (attention.key, 0)):
            layer.weight[place] = gain * turned(frequencies, chosen, turn) @ taken_FD


def _heard(encoder: Encoder, projection: nn.Linear | None, frequencies: Tensor) -> tuple[Tensor, Tensor]:
    """The frequencies that reach the layers, and what takes their waves out of hidden states: ``(2 F, D)``."""
    half, width = len(frequencies), encoder.config.width
    if projection is None:
        return frequencies, torch.eye(width)
    if 2 * half <= width:
        return frequencies, torch.linalg.pinv(projection.weight)
    kept = spread(0, 1, half, max(1, width // _CARRIED // 2))  # too narrow for all: some get values of their own
    size, count = encoder.config.init_std * math.sqrt(2 * half), len(kept)  # as long as the other rows are
    carried = turned(frequencies, kept, 0)
    projection.weight[: 2 * count] = size * torch.cat([carried[0::2], carried[1::2]])
    return frequencies[kept], torch.eye(width)[: 2 * count] / size


def _query_bias(attention: DisentangledAttention) -> Tensor | None:
    return attention.query_bias if isinstance(attention, FusedDisentangledAttention) else attention.query.bias


def _by_distances(encoder: Encoder, attention: DisentangledAttention) -> None:
    """Lets the first heads' queries ask for a distance whatever the token, by their biases."""
    table, bias = cast(DistanceTable, encoder.scheme), cast(Tensor, _query_bias(attention))
    if table.norm is None:  # as loud as tokens are; else tokens drown what is asked of distances
        table.table.weight.div_(encoder.config.init_std)
    width = encoder.config.width // attention.heads
    for head, shift in enumerate(SHIFTS[: attention.heads]):
        row = row_of(torch.tensor([-shift]), table.table.num_embeddings, table.buckets, table.max_distance)
        row_1D = table.table(row) if table.norm is None else table.norm(table.table(row))
        place = slice(head * width, (head + 1) * width)
        key_K = (attention.position_key or attention.key)(row_1D)[0, place]
        bias[place] = PEAK / attention.scale * key_K / key_K.square().sum()


def spread(first: int, step: int, end: int, most: int) -> Tensor:
    """Numbers from `first` to `end` by `step`, at most so many of them, evenly."""
    every = torch.arange(first, end, step)
    return every[torch.arange(min(most, len(every))) * len(every) // min(most, len(every))]


def waves(places_P: Tensor, frequencies_F: Tensor) -> Tensor:
    """``(P, 2 F)``: the cosines of each place, then the sines."""
    angles_PF = places_P[:, None] * frequencies_F
    return torch.cat([angles_PF.cos(), angles_PF.sin()], 1)


def turned(frequencies_F: Tensor, chosen: Tensor, shift: int) -> Tensor:
    """What makes of `waves` of a place those of another one, for some frequencies only.

    Args:
        frequencies_F: ``(F,)``.
        chosen: Numbers of the frequencies that are kept.
        shift: How many places further.

    Returns:
        ``(2 · chosen, 2 F)``, for each chosen frequency the row of its cosine and that of its sine.
    """
    half, count = len(frequencies_F), len(chosen)
    angles = frequencies_F[chosen] * shift
    found = torch.zeros(count, 2, 2 * half)
    each = torch.arange(count)
    found[each, 0, chosen], found[each, 0, half + chosen] = angles.cos(), -angles.sin()
    found[each, 1, chosen], found[each, 1, half + chosen] = angles.sin(), angles.cos()
    return found.flatten(0, 1)
