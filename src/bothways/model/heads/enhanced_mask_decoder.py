"""The enhanced mask decoder: absolute positions come in just before masked tokens are guessed.

He, Liu, Gao and Chen 2020, section 3.2, in the form of their published code: the last block reads, as keys and values,
what went into it; the first query adds the positions to that, the second query is what the first pass gave. What comes
out takes the place of the encoder's output before a masked-token head.

    output = encoder(batch, hidden=True)
    loss, hits = head.loss(decode(encoder, output, batch, places_M), encoder.token_table, labels_M)

A masked-token head says by its ``decoder`` whether it learned behind this one; `states_at` gives it what it wants.

Shapes: T tokens, M places, H heads, K head width, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.encoder import Encoder, EncoderOutput
from bothways.model.parts.context import Context

_PASSES = 2
_ROWS = 512
"""Of the table of positions, for an encoder that knows no longest input."""
_KINDS = ("full", "buckets", "disentangled")
"""Kinds of attention whose keys and values do not depend on who asks."""


def decode(encoder: Encoder, output: EncoderOutput, batch: TokenBatch, places_M: Tensor | None = None) -> Tensor:
    """Runs the last block twice more, with absolute positions in its first query.

    Queries do not see each other, so where only some places are to be scored, nearly all of the work is done on these
    alone.

    Args:
        encoder: With a table of positions; they need not be added to its tokens.
        output: What it returned for the batch, with ``hidden=True``.
        batch: The same batch.
        places_M: ``(M,)`` the tokens that will be scored, each once; all T if not given.

    Returns:
        ``(M, D)``, or ``(T, D)`` without `places_M`.

    Raises:
        BothwaysError: The encoder has no table of positions, or too short a one, or its blocks are of another kind.
    """
    batch = encoder.at_door(batch)
    memory_TD = _memory(encoder, output, batch)
    places_M = torch.arange(len(memory_TD)) if places_M is None else places_M
    return look_again(encoder, memory_TD, encoder.context(batch), places_M.to(memory_TD.device))


def look_again(encoder: Encoder, memory_TD: Tensor, context: Context, places_M: Tensor) -> Tensor:
    """The two passes of `decode`, after all checks.

    Args:
        encoder: As there.
        memory_TD: ``(T, D)`` what went into the last block.
        context: What the layers share.
        places_M: ``(M,)`` the tokens that will be scored.

    Returns:
        ``(M, D)``.
    """
    layer = encoder.config.layers - 1
    block = encoder.stack.blocks[encoder.stack.schedule[layer]]
    attention, tables = block.attention, encoder.embeddings
    x_MD = memory_TD[places_M] + tables.positions(context.positions[places_M] + tables.position_offset)  # type: ignore[operator]
    _, k_THK, v_THK = attention.project(memory_TD, context, layer)  # type: ignore[operator, union-attr]
    for _ in range(_PASSES):
        q_MHK, _, _ = attention.project(x_MD, context, layer)  # type: ignore[operator, union-attr]
        q_THK = torch.zeros_like(k_THK).index_copy(0, places_M, q_MHK)  # the others' results are not looked at
        mixed_TD = attention.mix(q_THK, k_THK, v_THK, context, layer)  # type: ignore[operator, union-attr]
        x_MD = block.after_attention(x_MD, attention.output(mixed_TD[places_M]))  # type: ignore[operator, union-attr]
    return x_MD


def states_at(decoder: str, encoder: Encoder, output: EncoderOutput, batch: TokenBatch, places_M: Tensor) -> Tensor:
    """``(M, D)`` what a masked-token head reads at some places of a batch.

    Args:
        decoder: Of the head: ``"plain"`` or ``"enhanced"``; the others as in `decode`.
        encoder: What was run.
        output: What came out; with hidden states for an enhanced decoder.
        batch: What it was given.
        places_M: ``(M,)``, each once.
    """
    if decoder == "enhanced":
        return decode(encoder, output, batch, places_M)
    return output.at(places_M)


def with_positions(config: EncoderConfig, longest: int = 0) -> EncoderConfig:
    """The same encoder with a table of positions beside its tokens for the decoder, where it has none.

    Args:
        config: Of any encoder.
        longest: The longest input in tokens that the table must serve.
    """
    if config.embeddings.positions:
        return config
    rows = max(config.longest or _ROWS, longest)
    return config.derive(embeddings__positions=rows, embeddings__positions_added=False)


def refusal(config: EncoderConfig) -> str | None:
    """Why an encoder cannot work with the decoder, in one sentence; None if it can."""
    tables = config.embeddings
    if not tables.positions:
        return (
            "the enhanced mask decoder reads absolute positions, and this encoder has no table of them; build it with "
            f"embeddings__positions={config.longest or _ROWS}"
        )
    if tables.width != config.width or config.norm != "post" or config.attention.kind not in _KINDS:
        return (
            "the enhanced mask decoder needs tables as wide as the encoder, post-norm blocks and attention of the kind "
            f"{', '.join(_KINDS)}; this encoder differs"
        )
    return None


def _memory(encoder: Encoder, output: EncoderOutput, batch: TokenBatch) -> Tensor:
    """``(T, D)`` what went into the last block, after all checks."""
    tables = encoder.config.embeddings
    if why := refusal(encoder.config):
        raise BothwaysError(why)
    if batch.longest > tables.positions - tables.position_offset:
        raise BothwaysError(
            f"a sequence has {batch.longest} tokens, but the table that the enhanced mask decoder reads has "
            f"{tables.positions - tables.position_offset} positions; cut it or build a longer table"
        )
    if output.hidden is None:
        raise BothwaysError("the enhanced mask decoder reads hidden states; call the encoder with hidden=True")
    return output.hidden[-2]
