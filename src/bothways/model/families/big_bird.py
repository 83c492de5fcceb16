"""BigBird: Zaheer et al., 2020, "Big Bird: Transformers for Longer Sequences".

Differences from BERT:

- texts of 4,096 tokens;
- in texts of more than 704 tokens attention is sparse: a block of 64 tokens looks at itself, its two neighbours, the
  first, the last and three random blocks, and only the first and the last block look at everything, so that time and
  memory grow with the length and not with its square;
- random blocks are drawn once for each layer and head, and used in training only (see `SparseAttention`);
- embeddings are dropped out before their norm;
- GELU in its tanh approximation;
- SentencePiece, 50,358 tokens, cased;
- the classification head reads the first token, not the pooled output, through a hidden layer of its own;
- the answer head has a feed-forward layer of its own; the published class also takes 1,000,000 off the scores of the
  question's tokens, which is left to who chooses the answer here;
- pre-trained on masked tokens alone, from RoBERTa's weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.model.config import EncoderConfig, HeadConfig, SparseAttentionConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import Reader

BASE = bert.BASE.derive(
    family="big_bird",
    embeddings__positions=4096,
    attention=SparseAttentionConfig(heads=12, block=64, random_blocks=3),
    embeddings__dropout_first=True,
    feed_forward__activation="gelu_tanh",
    embeddings__vocab_size=50_358,
)

SIZES = {
    "base": BASE,
    "large": BASE.derive(
        layers=24, width=1024, embeddings__width=1024, attention__heads=16, feed_forward__width=4096
    ),
}  # fmt: skip

NAMES = replace(
    bert.NAMES,
    names={theirs.replace("pooler.dense.", "pooler."): ours for theirs, ours in bert.NAMES.names.items()},
)

HEADS = {
    "mlm": bert.HEADS["mlm"],
    "nsp": bert.HEADS["nsp"],
    "classify": FamilyHead(
        HeadConfig(kind="classify", reads="first", hidden="encoder"),
        {
            "classifier.dense.*": "classify.hidden.*",
            "classifier.out_proj.*": "classify.output.*",
        },
    ),
    "tag": bert.HEADS["tag"],
    "answer": FamilyHead(
        HeadConfig(kind="answer", feed_forward=True),
        {
            "qa_classifier.intermediate.dense.*": "answer.feed_forward.inner.*",
            "qa_classifier.output.dense.*": "answer.feed_forward.output.*",
            "qa_classifier.output.LayerNorm.*": "answer.norm.*",
            "qa_classifier.qa_outputs.*": "answer.output.*",
        },
        dropout=("hidden_dropout_prob",),
    ),
    "choose": replace(bert.HEADS["choose"], dropout=("hidden_dropout_prob",)),
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from BigBird's ``config.json``, sparse or, as ``original_full``, not.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    read = Reader(config)
    read.only("attention_type", "block_sparse", "original_full")
    read.only("use_bias", True)
    read.only("rescale_embeddings", False)
    own = {"attention_type", "use_bias", "rescale_embeddings", "block_size", "num_random_blocks"}
    made = bert.from_hf({"hidden_act": "gelu_new", "max_position_embeddings": 4096, **config}, frozenset(own))
    made = made.derive(family="big_bird", embeddings__dropout_first=True)
    if config.get("attention_type") == "original_full":
        return made
    attention = SparseAttentionConfig(
        heads=made.attention.heads,
        dropout=made.attention.dropout,
        block=read.get("block_size", 64),
        random_blocks=read.get("num_random_blocks", 3),
    )
    return made.derive(attention=attention)


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """BigBird's ``config.json`` from our configuration."""
    written = bert.to_hf(config) | {"model_type": "big_bird", "attention_type": "original_full"}
    if not isinstance(config.attention, SparseAttentionConfig):
        return written
    sparse = {"block_size": config.attention.block, "num_random_blocks": config.attention.random_blocks}
    return written | {"attention_type": "block_sparse"} | sparse


FAMILY = Family(
    name="big_bird",
    title="BigBird",
    year=2020,
    paper="Zaheer et al., Big Bird: Transformers for Longer Sequences (BigBird), NeurIPS 2020",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="unigram",
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("BigBird", "mlm", "mlm+nsp", "classify", "tag", "answer", "choose"),
)
