"""From configurations to modules: read once, top to bottom, this says what a model is made of."""

from __future__ import annotations

from torch import nn

from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.heads.classify import ClassifyHead
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.heads.nsp import NextSentenceHead
from bothways.model.parts.attention import Attention
from bothways.model.parts.block import PostNormBlock
from bothways.model.parts.embeddings import Embeddings
from bothways.model.parts.feed_forward import FeedForward
from bothways.model.parts.pooler import Pooler
from bothways.model.parts.stack import Stack


def build_encoder(config: EncoderConfig) -> Encoder:
    """An encoder with random weights, drawn from torch's generator as BERT draws them."""
    tables = config.embeddings
    embeddings = Embeddings(
        tables.vocab_size,
        tables.width,
        tables.positions,
        tables.segments,
        tables.norm_eps,
        tables.dropout,
        tables.pad_id,
    )
    blocks = [
        PostNormBlock(
            attention=Attention(config.width, config.attention.heads, config.attention.dropout),
            feed_forward=FeedForward(config.width, config.feed_forward.width, config.feed_forward.activation),
            width=config.width,
            norm_eps=config.norm_eps,
            dropout=config.dropout,
        )
        for _ in range(config.layers)
    ]
    stack = Stack(blocks, schedule=range(config.layers))
    pooler = Pooler(config.width) if config.pooler else None
    encoder = Encoder(config, embeddings, stack, pooler)
    initialise(encoder, config.init_std)
    return encoder


def build_head(head: HeadConfig, config: EncoderConfig) -> nn.Module:
    """A head with random weights for an encoder of the given configuration.

    Raises:
        BothwaysError: The head reads the pooled output and the encoder has none.
    """
    made: nn.Module
    if head.kind == "mlm":
        made = MaskedTokenHead(
            config.width, config.embeddings.vocab_size, config.feed_forward.activation, config.norm_eps
        )
    else:
        if config.pooler is None:
            raise BothwaysError(f"the head {head.kind!r} needs the pooled output, which this encoder does not have")
        if head.kind == "nsp":
            made = NextSentenceHead(config.width)
        else:
            made = ClassifyHead(config.width, len(head.labels), head.hidden, head.dropout)
    initialise(made, config.init_std)
    return made


def initialise(module: nn.Module, std: float) -> None:
    """Draws weights from a normal distribution of the given deviation; biases 0, norms 1, the padding row 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            nn.init.zeros_(part.weight[part.padding_idx])
