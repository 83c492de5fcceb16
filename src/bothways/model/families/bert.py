"""BERT: Devlin, Chang, Lee and Toutanova, 2018, "BERT: Pre-training of Deep Bidirectional Transformers".

The ancestor; every other family is described by how it differs from this:

- tokens, learned positions and two segments are added, normed, dropped out;
- every token attends to every token of its sequence, H heads;
- each layer: attention, add, norm; feed-forward of four times the width with exact GELU, add, norm (post-norm);
- a pooled output: the first token through a linear layer and tanh;
- pre-trained on masked tokens and next sentences, the masked-token head tied to the token table;
- WordPiece, cased or uncased.

Sizes tiny to medium: Turc, Chang, Lee and Toutanova, 2019, "Well-Read Students Learn Better".
"""

from __future__ import annotations

from typing import Any

from bothways.model.config import AttentionConfig, EmbeddingsConfig, EncoderConfig, FeedForwardConfig, HeadConfig
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import HF_ACTIVATIONS, Reader
from bothways.model.families.names import NameTable

BASE = EncoderConfig(
    family="bert",
    width=768,
    layers=12,
    embeddings=EmbeddingsConfig(vocab_size=30_522, width=768, positions=512, segments=2),
    attention=AttentionConfig(heads=12),
    feed_forward=FeedForwardConfig(width=3072, activation="gelu"),
)


def _size(layers: int, width: int) -> EncoderConfig:
    """A published size: heads are 64 wide, the feed-forward layer four times the width."""
    return BASE.derive(
        layers=layers,
        width=width,
        embeddings__width=width,
        attention__heads=width // 64,
        feed_forward__width=4 * width,
    )


SIZES = {
    "tiny": _size(2, 128),
    "mini": _size(4, 256),
    "small": _size(4, 512),
    "medium": _size(8, 512),
    "base": BASE,
    "large": _size(24, 1024),
    "base-cased": BASE.derive(embeddings__vocab_size=28_996),
    "large-cased": _size(24, 1024).derive(embeddings__vocab_size=28_996),
    "base-chinese": BASE.derive(embeddings__vocab_size=21_128),
    "base-multilingual-cased": BASE.derive(embeddings__vocab_size=119_547),
}

NAMES = NameTable(
    prefix="bert.",
    names={
        "embeddings.word_embeddings.weight": "encoder.embeddings.tokens.weight",
        "embeddings.position_embeddings.weight": "encoder.embeddings.positions.weight",
        "embeddings.token_type_embeddings.weight": "encoder.embeddings.segments.weight",
        "embeddings.LayerNorm.*": "encoder.embeddings.norm.*",
        "encoder.layer.{}.attention.self.query.*": "encoder.stack.blocks.{}.attention.query.*",
        "encoder.layer.{}.attention.self.key.*": "encoder.stack.blocks.{}.attention.key.*",
        "encoder.layer.{}.attention.self.value.*": "encoder.stack.blocks.{}.attention.value.*",
        "encoder.layer.{}.attention.output.dense.*": "encoder.stack.blocks.{}.attention.output.*",
        "encoder.layer.{}.attention.output.LayerNorm.*": "encoder.stack.blocks.{}.attention_norm.*",
        "encoder.layer.{}.intermediate.dense.*": "encoder.stack.blocks.{}.feed_forward.inner.*",
        "encoder.layer.{}.output.dense.*": "encoder.stack.blocks.{}.feed_forward.output.*",
        "encoder.layer.{}.output.LayerNorm.*": "encoder.stack.blocks.{}.feed_forward_norm.*",
        "pooler.dense.*": "encoder.pooler.dense.*",
    },
    spellings={".gamma": ".weight", ".beta": ".bias"},
    tied={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    dropped=(r"embeddings\.position_ids", r"embeddings\.token_type_ids"),
)


HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm"),
        {
            "cls.predictions.transform.dense.*": "mlm.dense.*",
            "cls.predictions.transform.LayerNorm.*": "mlm.norm.*",
            "cls.predictions.bias": "mlm.bias",
        },
    ),
    "nsp": FamilyHead(
        HeadConfig(kind="nsp"),
        {"cls.seq_relationship.*": "nsp.output.*"},
    ),
    "classify": FamilyHead(
        HeadConfig(kind="classify"),
        {"classifier.*": "classify.output.*"},
    ),
    "tag": FamilyHead(HeadConfig(kind="tag"), {"classifier.*": "tag.output.*"}),
    "answer": FamilyHead(
        HeadConfig(kind="answer", dropout=0.0),
        {"qa_outputs.*": "answer.output.*"},
        dropout=(),
    ),
    "choose": FamilyHead(
        HeadConfig(kind="choose"),
        {"classifier.*": "choose.output.*"},
    ),
}


def from_hf(config: dict[str, Any], also: frozenset[str] = frozenset()) -> EncoderConfig:
    """Our configuration from BERT's ``config.json``.

    Args:
        config: The file as a dictionary.
        also: Keys that another family has beside BERT's and reads itself.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    # pooler_*: written by early conversions of the Chinese and multilingual models, read by nothing
    ignored = {
        "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
        "pooler_size_per_head", "pooler_type", "gradient_checkpointing",
    }  # fmt: skip
    read = Reader(config, ignored=also | ignored)
    read.only("position_embedding_type", "absolute")
    read.only("is_decoder", False)  # would look one way only
    read.only("add_cross_attention", False)
    width = read.get("hidden_size", 768)
    made = EncoderConfig(
        family="bert",
        width=width,
        layers=read.get("num_hidden_layers", 12),
        embeddings=EmbeddingsConfig(
            vocab_size=read.get("vocab_size"),
            width=width,
            positions=read.get("max_position_embeddings", 512),
            segments=read.get("type_vocab_size", 2),
            norm_eps=read.get("layer_norm_eps", 1e-12),
            dropout=read.get("hidden_dropout_prob", 0.1),
            pad_id=read.get("pad_token_id", 0) or 0,
        ),
        attention=AttentionConfig(
            heads=read.get("num_attention_heads", 12),
            dropout=read.get("attention_probs_dropout_prob", 0.1),
        ),
        feed_forward=FeedForwardConfig(
            width=read.get("intermediate_size", 3072),
            activation=read.activation("hidden_act"),
        ),
        norm_eps=read.get("layer_norm_eps", 1e-12),
        dropout=read.get("hidden_dropout_prob", 0.1),
        init_std=read.get("initializer_range", 0.02),
    )
    read.finish()
    return made


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """BERT's ``config.json`` from our configuration."""
    return {
        "model_type": "bert",
        "vocab_size": config.embeddings.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.attention.heads,
        "intermediate_size": config.feed_forward.width,
        "hidden_act": HF_ACTIVATIONS[config.feed_forward.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention.dropout,
        "max_position_embeddings": config.embeddings.positions,
        "type_vocab_size": config.embeddings.segments,
        "initializer_range": config.init_std,
        "layer_norm_eps": config.norm_eps,
        "pad_token_id": config.embeddings.pad_id,
    }


FAMILY = Family(
    name="bert",
    title="BERT",
    year=2018,
    paper="Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, NAACL 2019",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm", "nsp"),
    tokenizer="wordpiece",
    stated={"base": 110, "large": 340},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("Bert", "mlm", "nsp", "mlm+nsp", "classify", "tag", "answer", "choose"),
)
