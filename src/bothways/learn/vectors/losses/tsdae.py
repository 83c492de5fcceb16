"""TSDAE: from its vector alone a text is to be written again, of which the encoder saw only a part.

Wang et al. 2021, "TSDAE: Using Transformer-based Sequential Denoising Auto-Encoder for Unsupervised Sentence Embedding
Learning", section 3: 60 % of the tokens are deleted; the decoder shares the encoder's weights and attends to one vector
only. Attention to a single vector is a linear layer of it; here that is added before each block, so that the blocks
stay as they are. The decoder is thrown away afterwards.

Shapes: T tokens of the whole texts, S texts, E width of a vector, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step
from bothways.model.build import build_head
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.parts.attend import Score, attend
from bothways.model.parts.causal import none_later

WHOLE, ENCODER, PLACES = "whole", "encoder", "whole places"


@dataclass(frozen=True)
class Tsdae:
    """Cross-entropy of each next token.

    Attributes:
        deletion: Share of the tokens that the encoder does not see.
    """

    deletion: float = 0.6
    name = "tsdae"
    needs = "texts"
    forms = ("texts",)
    meets = False
    guesses = True

    def right(self, data: VectorData) -> None:
        """The texts themselves say it."""

    def count(self, starts: np.ndarray, also: Mapping[str, Any]) -> int:
        """The tokens of the whole texts that have one before them."""
        return int(also[WHOLE].tokens - also[WHOLE].sequences)

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the tokens of all texts that have one before them."""
        assert isinstance(module, Decoder)
        vectors_SE = step.vectors[torch.from_numpy(step.also[PLACES]).to(step.vectors.device)]
        total, hits, count = module(step.also[ENCODER], step.also[WHOLE], vectors_SE)
        return Mean(total / count, hits / count)


def without_some(token_ids: np.ndarray, share: float, *keys: int) -> np.ndarray:
    """A text's tokens without a share of them; its first and last, which are special, stay, and one besides.

    Args:
        token_ids: ``(L,)``.
        share: Of the tokens that are deleted.
        keys: Of the chance.
    """
    inner = len(token_ids) - 2
    if inner < 2:
        return token_ids
    draws = generator("tsdae", *keys).random(inner)
    kept = draws >= share
    kept[draws.argmax()] = True
    return token_ids[np.concatenate(([True], kept, [True]))]


class Decoder(nn.Module):
    """Writes texts from vectors with the encoder's own blocks.

    Args:
        config: What the encoder is.
        width: E.

    Raises:
        BothwaysError: The encoder's attention cannot be made to look one way.
    """

    def __init__(self, config: EncoderConfig, width: int) -> None:
        super().__init__()
        if type(config.attention).__name__ not in ("AttentionConfig", "BucketAttentionConfig", "RotaryAttentionConfig"):
            raise BothwaysError(
                f"the loss tsdae writes texts with the encoder's own blocks, which those of {config.family} cannot do: "
                "use --loss simcse (in Python loss='simcse')"
            )
        self.told = nn.ModuleList(nn.Linear(width, config.width) for _ in range(config.layers))
        self.norms = nn.ModuleList(nn.LayerNorm(config.width, eps=config.norm_eps) for _ in range(config.layers))
        head = build_head(HeadConfig(kind="mlm"), config)
        assert isinstance(head, MaskedTokenHead)
        self.head = head

    def forward(self, encoder: Encoder, batch: TokenBatch, vectors_SE: Tensor) -> tuple[Tensor, Tensor, int]:
        """The sum of the cross-entropies of all next tokens, how many were guessed right, and how many there are.

        Args:
            encoder: Whose weights it shares.
            batch: The whole texts.
            vectors_SE: ``(S, E)`` their vectors, in the order of the batch.
        """
        here = encoder.at_door(batch)
        context = encoder.context(here)
        sequence_T = torch.from_numpy(batch.sequence_of_token).to(vectors_SE.device)
        x_TD = encoder.embeddings(here.token_ids, here.positions, here.segment_ids)
        for layer, number in enumerate(encoder.stack.schedule):
            block: Any = encoder.stack.blocks[number]
            attention: Any = block.attention
            x_TD = self.norms[layer](x_TD + self.told[layer](vectors_SE)[sequence_T])
            q_THK, k_THK, v_THK = attention.project(block.before_attention(x_TD), context, layer)
            score = _with(attention.score(context, layer))
            mixed_THK = attend(q_THK, k_THK, v_THK, context.plan, scale=attention.scale, score=score)
            x_TD = block.after_attention(x_TD, attention.output(mixed_THK.flatten(1)))
        if encoder.stack.norm is not None:
            x_TD = encoder.stack.norm(x_TD)
        places = np.setdiff1d(np.arange(batch.tokens), batch.starts[1:] - 1)
        before = torch.from_numpy(places).to(x_TD.device)
        total, hits = self.head.loss(x_TD[before], encoder.token_table, here.token_ids[before + 1])
        return total, hits, len(places)


def _with(own: Score | None) -> Score:
    """What a family adds to the scores, and that no token looks at a later one."""
    return none_later if own is None else lambda q_NHLK, k_NHLK: own(q_NHLK, k_NHLK) + none_later(q_NHLK, k_NHLK)
