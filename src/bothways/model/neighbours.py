"""Heads that begin by looking at their neighbours, so that pre-training does not stall.

With random weights a token sees all others alike, and what stands beside a masked one is a small part of what it is
told. Attention finds out slowly that places matter, and until then an encoder guesses by the frequencies of words
alone: the plateau of BERT's first thousands of steps. Here positions begin as sines and cosines, in which a shift by
some places is a rotation, and the first heads of the first layer begin with queries that are turned by one place or
two. All of it is learned further; nothing but the first numbers is different.

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
from bothways.model.parts.embeddings import Embeddings

AttentionStart = Literal["neighbours", "random"]
SHIFTS, BACKWARDS = (-1, 1, -2, 2), (-1, -2, -3, -4)
"""Where the first heads look: places after their own. And where no later one is seen."""
LOUDNESS, PEAK = 1.15, 6.0
"""Size of the positions beside that of the tokens; and the score of the place that is looked at, where others have
about 0."""


def can_look_at_neighbours(encoder: Encoder) -> bool:
    """Whether an encoder adds learned positions, and its first layer asks for them with queries and keys of all."""
    embeddings, attention = first_parts(encoder)
    if not isinstance(attention, Attention) or embeddings.positions is None or not embeddings.positions_added:
        return False
    wide = embeddings.positions.embedding_dim
    return wide % 2 == 0 and wide <= encoder.config.width


def first_parts(encoder: Encoder) -> tuple[Embeddings, nn.Module]:
    """The embeddings, and the attention of the first layer."""
    block = encoder.stack.blocks[encoder.stack.schedule[0]]
    return cast(Embeddings, encoder.embeddings), cast(nn.Module, block.attention)


def begin_attention(encoder: Encoder, start: AttentionStart | None) -> None:
    """Gives an encoder with random weights the start that is asked for; with None, the better one that it can have.

    Raises:
        BothwaysError: It cannot have it.
    """
    if start == "random":
        return
    if not look_at_neighbours(encoder) and start is not None:
        raise BothwaysError(
            f"a {encoder.config.family} encoder of this shape has no learned positions to look at neighbours by; take "
            "attention_start random"
        )


@torch.no_grad()
def look_at_neighbours(encoder: Encoder) -> bool:
    """Writes the positions, and the first layer's queries and keys, of an encoder with random weights.

    Returns:
        Whether it could; if not, nothing is changed.
    """
    if not can_look_at_neighbours(encoder):
        return False
    embeddings, attention = first_parts(encoder)
    assert isinstance(attention, Attention)
    assert embeddings.positions is not None
    rows, wide = embeddings.positions.weight.shape
    half, heads, width = wide // 2, attention.heads, encoder.config.width // attention.heads
    frequencies = math.pi * (torch.arange(half) + 0.5) / half
    size = LOUDNESS * encoder.config.init_std * math.sqrt(2)
    embeddings.positions.weight.copy_(size * waves(torch.arange(rows), frequencies))
    added = 1 if embeddings.segments is None else 2  # tables of the size of the tokens'
    share = LOUDNESS**2 / (LOUDNESS**2 + added)  # of the variance that positions have behind the norm
    back = None if embeddings.projection is None else torch.linalg.pinv(embeddings.projection.weight)
    shifts = BACKWARDS if isinstance(attention, CausalAttention) else SHIFTS
    looking = min(heads, len(shifts))
    for head, shift in enumerate(shifts[:looking]):
        chosen = spread(head, looking, half, width // 2)
        scale = 1 / math.sqrt(width) if attention.scale is None else attention.scale
        gain = math.sqrt(PEAK / (scale * 2 * len(chosen) * share))
        place = slice(head * width, head * width + 2 * len(chosen))
        for layer, turn in ((attention.query, shift), (attention.key, 0)):
            picked_KE = gain * turned(frequencies, chosen, turn)
            layer.weight[place] = picked_KE if back is None else picked_KE @ back
    return True


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
