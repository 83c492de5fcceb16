"""RoBERTa: Liu et al., 2019, "RoBERTa: A Robustly Optimized BERT Pretraining Approach".

Differences from BERT:

- positions begin in the row after the padding token's id: with id 1, a table of 514 rows holds texts of 512 tokens;
- one constant segment, the same for every token of a pair too;
- layer norms have an epsilon of 1e-5;
- byte-level BPE, 50,265 tokens; a pair is ``<s> A </s></s> B </s>``;
- the masked-token head has the exact GELU, whatever the blocks have;
- the classification head reads the first token, not the pooled output, through a linear layer and tanh of its own;
- pre-trained on masked tokens alone, longer and on more text, with masks drawn anew in each epoch.

A text in which the padding token itself stands as a token is the one case where `transformers` numbers positions
otherwise: there such a token has the padding row and is not counted; here it is a token like any other.

Size distil: the checkpoint distilroberta-base, made as in Sanh et al., 2019, "DistilBERT".
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes

BASE = bert.BASE.derive(
    family="roberta",
    embeddings__pad_id=1,
    embeddings__position_offset=2,
    embeddings__positions=514,
    embeddings__segments=1,
    embeddings__norm_eps=1e-5,
    norm_eps=1e-5,
    embeddings__vocab_size=50_265,
)
LARGE = BASE.derive(
    layers=24, width=1024, embeddings__width=1024, attention__heads=16, feed_forward__width=4096
)  # fmt: skip

SIZES = {"base": BASE, "large": LARGE, "distil": BASE.derive(layers=6)}

NAMES = replace(
    bert.NAMES,
    prefix="roberta.",
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
)

HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm", hidden="gelu"),
        {
            "lm_head.dense.*": "mlm.dense.*",
            "lm_head.layer_norm.*": "mlm.norm.*",
            "lm_head.bias": "mlm.bias",
        },
    ),
    "classify": FamilyHead(
        HeadConfig(kind="classify", reads="first", hidden="tanh"),
        {
            "classifier.dense.*": "classify.hidden.*",
            "classifier.out_proj.*": "classify.output.*",
        },
    ),
    "tag": bert.HEADS["tag"],
    "answer": bert.HEADS["answer"],
    "choose": replace(bert.HEADS["choose"], dropout=("hidden_dropout_prob",)),
}


def from_hf(config: dict[str, Any], also: frozenset[str] = frozenset()) -> EncoderConfig:
    """Our configuration from RoBERTa's ``config.json``: BERT's keys, with positions that follow the padding id.

    Args:
        config: The file as a dictionary.
        also: Keys that another family has beside RoBERTa's and reads itself.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    stated = {"pad_token_id": 1, **config}
    if stated["pad_token_id"] is None:
        raise BothwaysError("config.json says pad_token_id = null, but positions begin after that id; RoBERTa's is 1")
    read = bert.from_hf(stated, also)
    return read.derive(family="roberta", embeddings__position_offset=read.embeddings.pad_id + 1)


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """RoBERTa's ``config.json`` from our configuration."""
    return bert.to_hf(config) | {"model_type": config.family}


FAMILY = Family(
    name="roberta",
    title="RoBERTa",
    year=2019,
    paper="Liu et al., RoBERTa: A Robustly Optimized BERT Pretraining Approach, arXiv 2019",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="bpe",
    stated={"base": 125, "large": 355},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("Roberta", "mlm", "classify", "tag", "answer", "choose"),
)
