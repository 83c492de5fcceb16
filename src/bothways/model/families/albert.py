"""ALBERT: Lan, Chen, Goodman, Gimpel, Sharma and Soricut, 2019, "ALBERT: A Lite BERT for Self-supervised Learning".

Differences from BERT:

- 30,000 tokens of a Unigram vocabulary, lower-cased;
- tables 128 wide, normed, then projected up to the encoder's width;
- one block applied at every layer (or one for each group of neighbouring layers, ``num_hidden_groups``);
- GELU by its tanh approximation; version 1 was published with the exact one;
- no dropout; version 1 has it in all sizes but xxlarge;
- the masked-token head is as wide as the tables;
- sentence order in place of next sentences: two neighbouring texts, in their order or swapped.

Sizes are those of version 2, which was trained longer and on more text; ``-v1`` names the first. The paper's table says
60M and 235M parameters for xlarge and xxlarge; counted, the encoders have 58.7M and 222.6M.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.model.config import AttentionConfig, EmbeddingsConfig, EncoderConfig, FeedForwardConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import Reader
from bothways.model.families.names import NameTable

BASE = bert.BASE.derive(
    family="albert",
    embeddings__vocab_size=30_000,
    embeddings__width=128,
    embeddings__always_projected=True,
    blocks=1,
    feed_forward__activation="gelu_tanh",
    dropout=0.0,
    embeddings__dropout=0.0,
    attention__dropout=0.0,
)
_LARGE = BASE.derive(layers=24, width=1024, attention__heads=16, feed_forward__width=4096)
_XLARGE = _LARGE.derive(width=2048, feed_forward__width=8192)
_XXLARGE = BASE.derive(width=4096, attention__heads=64, feed_forward__width=16_384)
_FIRST: dict[str, Any] = {"feed_forward__activation": "gelu"}
_FIRST_DROPOUT = _FIRST | {"dropout": 0.1, "embeddings__dropout": 0.1, "attention__dropout": 0.1}

SIZES = {
    "base": BASE,
    "large": _LARGE,
    "xlarge": _XLARGE,
    "xxlarge": _XXLARGE,
    "base-v1": BASE.derive(**_FIRST_DROPOUT),
    "large-v1": _LARGE.derive(**_FIRST_DROPOUT),
    "xlarge-v1": _XLARGE.derive(**_FIRST_DROPOUT),
    "xxlarge-v1": _XXLARGE.derive(**_FIRST),
}

# the first number is the group's; a group has a single layer
_THEIRS, _OURS = "encoder.albert_layer_groups.{}.albert_layers.0", "encoder.stack.blocks.{}"

NAMES = NameTable(
    prefix="albert.",
    names={
        "embeddings.word_embeddings.weight": "encoder.embeddings.tokens.weight",
        "embeddings.position_embeddings.weight": "encoder.embeddings.positions.weight",
        "embeddings.token_type_embeddings.weight": "encoder.embeddings.segments.weight",
        "embeddings.LayerNorm.*": "encoder.embeddings.norm.*",
        "encoder.embedding_hidden_mapping_in.*": "encoder.embeddings.projection.*",
        f"{_THEIRS}.attention.query.*": f"{_OURS}.attention.query.*",
        f"{_THEIRS}.attention.key.*": f"{_OURS}.attention.key.*",
        f"{_THEIRS}.attention.value.*": f"{_OURS}.attention.value.*",
        f"{_THEIRS}.attention.dense.*": f"{_OURS}.attention.output.*",
        f"{_THEIRS}.attention.LayerNorm.*": f"{_OURS}.attention_norm.*",
        f"{_THEIRS}.ffn.*": f"{_OURS}.feed_forward.inner.*",
        f"{_THEIRS}.ffn_output.*": f"{_OURS}.feed_forward.output.*",
        f"{_THEIRS}.full_layer_layer_norm.*": f"{_OURS}.feed_forward_norm.*",
        "pooler.*": "encoder.pooler.dense.*",
    },
    tied={
        "predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    dropped=(r"embeddings\.position_ids", r"embeddings\.token_type_ids"),
)

_DROPOUT = ("classifier_dropout_prob",)

HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm"),
        {
            "predictions.dense.*": "mlm.dense.*",
            "predictions.LayerNorm.*": "mlm.norm.*",
            "predictions.bias": "mlm.bias",
        },
    ),
    "sop": FamilyHead(
        HeadConfig(kind="sop"),
        {"sop_classifier.classifier.*": "sop.output.*"},
        _DROPOUT,
    ),
    **{kind: replace(bert.HEADS[kind], dropout=_DROPOUT) for kind in ("classify", "tag", "choose")},
    "answer": bert.HEADS["answer"],
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from ALBERT's ``config.json``; a missing key means what it means for version 2's xxlarge.

    Raises:
        BothwaysError: A key is unknown or has a value this family does not compute.
    """
    read = Reader(config, ignored=frozenset(_DROPOUT))  # the folder reader's, for the heads
    read.only("position_embedding_type", "absolute")
    read.only("is_decoder", False)
    read.only("inner_group_num", 1)  # several blocks in a row at each layer: no published model has them
    read.only("net_structure_type", 0)  # this and the next four: experiments of the original code
    read.only("gap_size", 0)
    read.only("num_memory_blocks", 0)
    read.only("down_scale_factor", 1)
    read.only("layers_to_keep", [])
    made = EncoderConfig(
        family="albert",
        width=read.get("hidden_size", 4096),
        layers=read.get("num_hidden_layers", 12),
        blocks=read.get("num_hidden_groups", 1),
        embeddings=EmbeddingsConfig(
            vocab_size=read.get("vocab_size", 30_000),
            width=read.get("embedding_size", 128),
            always_projected=True,
            positions=read.get("max_position_embeddings", 512),
            segments=read.get("type_vocab_size", 2),
            norm_eps=read.get("layer_norm_eps", 1e-12),
            dropout=read.get("hidden_dropout_prob", 0.0),
            pad_id=read.get("pad_token_id", 0) or 0,
        ),
        attention=AttentionConfig(
            heads=read.get("num_attention_heads", 64),
            dropout=read.get("attention_probs_dropout_prob", 0.0),
        ),
        feed_forward=FeedForwardConfig(
            width=read.get("intermediate_size", 16_384),
            activation=read.activation("hidden_act", "gelu_new"),
        ),
        norm_eps=read.get("layer_norm_eps", 1e-12),
        dropout=read.get("hidden_dropout_prob", 0.0),
        init_std=read.get("initializer_range", 0.02),
    )
    read.finish()
    return made


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """ALBERT's ``config.json`` from our configuration."""
    own = {
        "model_type": "albert",
        "embedding_size": config.embeddings.width,
        "num_hidden_groups": config.layers if config.blocks is None else config.blocks,
        "inner_group_num": 1,
    }
    return bert.to_hf(config) | own


FAMILY = Family(
    name="albert",
    title="ALBERT",
    year=2019,
    paper="Lan et al., ALBERT: A Lite BERT for Self-supervised Learning of Language Representations, ICLR 2020",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm", "sop"),
    tokenizer="unigram",
    stated={"base": 12, "large": 18, "xlarge": 60, "xxlarge": 235},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("Albert", "mlm", "mlm+sop", "classify", "tag", "answer", "choose"),
)
