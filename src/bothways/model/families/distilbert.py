"""DistilBERT: Sanh, Debut, Chaumond and Wolf, 2019, "DistilBERT, a distilled version of BERT".

Differences from BERT:

- six layers, begun as every second one of BERT's;
- no segments: two texts are told apart by the separator alone;
- no pooled output: heads for whole sequences read the first token through a hidden layer of their own, with ReLU;
- no next sentences; it learned from BERT's guesses, hidden states and masked tokens.
"""

from __future__ import annotations

from typing import Any

from bothways.model.config import AttentionConfig, EmbeddingsConfig, EncoderConfig, FeedForwardConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import HF_ACTIVATIONS, Reader
from bothways.model.families.names import NameTable

BASE = bert.BASE.derive(
    family="distilbert",
    layers=6,
    embeddings__segments=0,
    pooler=None,
)

SIZES = {
    "base": BASE,
    "base-cased": BASE.derive(embeddings__vocab_size=28_996),
    "base-multilingual-cased": BASE.derive(embeddings__vocab_size=119_547),
}

_THEIRS, _OURS = "transformer.layer.{}", "encoder.stack.blocks.{}"

NAMES = NameTable(
    prefix="distilbert.",
    names={
        "embeddings.word_embeddings.weight": "encoder.embeddings.tokens.weight",
        "embeddings.position_embeddings.weight": "encoder.embeddings.positions.weight",
        "embeddings.LayerNorm.*": "encoder.embeddings.norm.*",
        f"{_THEIRS}.attention.q_lin.*": f"{_OURS}.attention.query.*",
        f"{_THEIRS}.attention.k_lin.*": f"{_OURS}.attention.key.*",
        f"{_THEIRS}.attention.v_lin.*": f"{_OURS}.attention.value.*",
        f"{_THEIRS}.attention.out_lin.*": f"{_OURS}.attention.output.*",
        f"{_THEIRS}.sa_layer_norm.*": f"{_OURS}.attention_norm.*",
        f"{_THEIRS}.ffn.lin1.*": f"{_OURS}.feed_forward.inner.*",
        f"{_THEIRS}.ffn.lin2.*": f"{_OURS}.feed_forward.output.*",
        f"{_THEIRS}.output_layer_norm.*": f"{_OURS}.feed_forward_norm.*",
    },
    tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    dropped=(r"embeddings\.position_ids",),
)


def _on_first_token(kind: str) -> FamilyHead:
    """First token, hidden layer, ReLU, dropout, linear."""
    return FamilyHead(
        HeadConfig(kind=kind, reads="first", hidden="relu", dropout=0.2, input_dropout=False),  # type: ignore[arg-type]
        {
            "pre_classifier.*": f"{kind}.hidden.*",
            "classifier.*": f"{kind}.output.*",
        },
        ("seq_classif_dropout",),
    )


HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm"),
        {
            "vocab_transform.*": "mlm.dense.*",
            "vocab_layer_norm.*": "mlm.norm.*",
            "vocab_projector.bias": "mlm.bias",
        },
    ),
    "classify": _on_first_token("classify"),
    "tag": FamilyHead(
        HeadConfig(kind="tag"),
        {"classifier.*": "tag.output.*"},
        ("dropout",),
    ),
    "answer": FamilyHead(
        HeadConfig(kind="answer"),
        {"qa_outputs.*": "answer.output.*"},
        ("qa_dropout",),
    ),
    "choose": _on_first_token("choose"),
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from DistilBERT's ``config.json``.

    Raises:
        BothwaysError: A key is unknown or has a value this family does not compute.
    """
    # the dropouts of heads are the folder reader's; sinusoidal positions are only what a table begins with, and the
    # checkpoint holds the table
    read = Reader(config, ignored=frozenset({"seq_classif_dropout", "qa_dropout", "sinusoidal_pos_embds"}))
    read.only("tie_weights_", True)
    read.only("is_decoder", False)
    width = read.get("dim", read.get("hidden_size", 768))  # either name is understood elsewhere too
    made = BASE.derive(
        width=width,
        layers=read.get("n_layers", read.get("num_hidden_layers", 6)),
        embeddings=EmbeddingsConfig(
            vocab_size=read.get("vocab_size", 30_522),
            width=width,
            positions=read.get("max_position_embeddings", 512),
            segments=0,
            dropout=read.get("dropout", 0.1),
            pad_id=read.get("pad_token_id", 0) or 0,
        ),
        attention=AttentionConfig(
            heads=read.get("n_heads", read.get("num_attention_heads", 12)),
            dropout=read.get("attention_dropout", 0.1),
        ),
        feed_forward=FeedForwardConfig(
            width=read.get("hidden_dim", 3072),
            activation=read.activation("activation"),
        ),
        dropout=read.get("dropout", 0.1),
        init_std=read.get("initializer_range", 0.02),
    )
    read.finish()
    return made


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """DistilBERT's ``config.json`` from our configuration."""
    return {
        "model_type": "distilbert",
        "vocab_size": config.embeddings.vocab_size,
        "dim": config.width,
        "n_layers": config.layers,
        "n_heads": config.attention.heads,
        "hidden_dim": config.feed_forward.width,
        "activation": HF_ACTIVATIONS[config.feed_forward.activation],
        "dropout": config.dropout,
        "attention_dropout": config.attention.dropout,
        "max_position_embeddings": config.embeddings.positions,
        "initializer_range": config.init_std,
        "pad_token_id": config.embeddings.pad_id,
    }


FAMILY = Family(
    name="distilbert",
    title="DistilBERT",
    year=2019,
    paper="Sanh et al., DistilBERT, a distilled version of BERT: smaller, faster, cheaper and lighter, NeurIPS 2019",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="wordpiece",
    stated={"base": 66},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("DistilBert", "mlm", "classify", "tag", "answer", "choose"),
)
