"""MPNet: Song, Tan, Qin, Lu and Liu, 2020, "MPNet: Masked and Permuted Pre-training for Language Understanding".

Differences from BERT:

- positions begin in row 2, after the padding token's id 1: 514 rows hold texts of 512 tokens;
- no segments;
- beside the position table one learned bias for each head and bucket of distances, the same in all layers: 32 buckets,
  all distances from 128 on share the last;
- layer norms have an epsilon of 1e-5;
- BERT's WordPiece vocabulary with RoBERTa's special tokens: ``<s> A </s>``, ``<s> A </s></s> B </s>``;
- the masked-token head has the exact GELU, whatever the blocks have;
- the classification head reads the first token through a linear layer and tanh of its own;
- masked tokens are guessed one after the other in a random order, each seeing those before it
  (`bothways.learn.objectives.permuting`).

`transformers` computes 32 buckets up to distance 128, and an offset of 2 after padding id 1, whatever else a
configuration might say; anything else is a composition that Bothways alone opens.
"""

from __future__ import annotations

from typing import Any

from bothways.model.config import BucketAttentionConfig, EncoderConfig
from bothways.model.families import bert, roberta
from bothways.model.families.family import Family, classes
from bothways.model.families.hf import Reader
from bothways.model.families.names import NameTable

BASE = bert.BASE.derive(
    family="mpnet",
    embeddings__pad_id=1,
    embeddings__position_offset=2,
    embeddings__positions=514,
    embeddings__segments=0,
    attention=BucketAttentionConfig(heads=12, buckets=32, max_distance=128),
    embeddings__norm_eps=1e-5,
    norm_eps=1e-5,
    embeddings__vocab_size=30_527,
)

SIZES = {"base": BASE}

NAMES = NameTable(
    prefix="mpnet.",
    names={
        "embeddings.word_embeddings.weight": "encoder.embeddings.tokens.weight",
        "embeddings.position_embeddings.weight": "encoder.embeddings.positions.weight",
        "embeddings.LayerNorm.*": "encoder.embeddings.norm.*",
        "encoder.relative_attention_bias.weight": "encoder.scheme.table.weight",
        "encoder.layer.{}.attention.attn.q.*": "encoder.stack.blocks.{}.attention.query.*",
        "encoder.layer.{}.attention.attn.k.*": "encoder.stack.blocks.{}.attention.key.*",
        "encoder.layer.{}.attention.attn.v.*": "encoder.stack.blocks.{}.attention.value.*",
        "encoder.layer.{}.attention.attn.o.*": "encoder.stack.blocks.{}.attention.output.*",
        "encoder.layer.{}.attention.LayerNorm.*": "encoder.stack.blocks.{}.attention_norm.*",
        "encoder.layer.{}.intermediate.dense.*": "encoder.stack.blocks.{}.feed_forward.inner.*",
        "encoder.layer.{}.output.dense.*": "encoder.stack.blocks.{}.feed_forward.output.*",
        "encoder.layer.{}.output.LayerNorm.*": "encoder.stack.blocks.{}.feed_forward_norm.*",
        "pooler.dense.*": "encoder.pooler.dense.*",
    },
    tied=roberta.NAMES.tied,
    dropped=bert.NAMES.dropped,
)

HEADS = {kind: roberta.HEADS[kind] for kind in ("mlm", "classify", "tag", "answer", "choose")}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from MPNet's ``config.json``.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    own = frozenset({"relative_attention_num_buckets"})
    read = Reader(config)
    read.only("relative_attention_num_buckets", 32)
    read.only("pad_token_id", 1)
    made = bert.from_hf({"vocab_size": 30_527, "pad_token_id": 1} | config, own)
    attention = BucketAttentionConfig(heads=made.attention.heads, dropout=made.attention.dropout)
    return made.derive(family="mpnet", embeddings__position_offset=2, embeddings__segments=0, attention=attention)


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """MPNet's ``config.json`` from our configuration."""
    own = {"model_type": "mpnet", "pad_token_id": 1, "relative_attention_num_buckets": 32}
    return {key: value for key, value in bert.to_hf(config).items() if key != "type_vocab_size"} | own


FAMILY = Family(
    name="mpnet",
    title="MPNet",
    year=2020,
    paper="Song et al., MPNet: Masked and Permuted Pre-training for Language Understanding, NeurIPS 2020",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="wordpiece",
    mask_order="permuted",
    stated={"base": 110},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("MPNet", "mlm", "classify", "tag", "answer", "choose"),
)
