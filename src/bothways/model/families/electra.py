"""ELECTRA: Clark, Luong, Le and Manning, 2020, "ELECTRA: Pre-training Text Encoders as Discriminators".

Two encoders are trained side by side; the discriminator is what people use. Differences from BERT:

- the tables may be narrower or wider than the encoder; a linear layer projects them to its width;
- there is no pooled output;
- pre-trained on replaced tokens: a small generator fills in masked tokens, the discriminator says of every token
  whether it was put there; both share their tables (`bothways.model.sharing`);
- the generator's masked-token head works at the width of the tables, with exact GELU;
- the discriminator's head: a linear layer, the activation, one score a token;
- classes and choices are scored on the first token through a hidden layer with GELU.

Sizes: generators are as wide as their discriminator's tables at the bottom, and a quarter or a third as wide above;
the published small generator is as large as its discriminator.
"""

from __future__ import annotations

from typing import Any

from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import Reader
from bothways.model.families.names import NameTable

BASE = bert.BASE.derive(family="electra", pooler=None)


def _size(layers: int, width: int, table_width: int) -> EncoderConfig:
    """A published size: heads are 64 wide, the feed-forward layer four times the width."""
    return BASE.derive(
        layers=layers,
        width=width,
        embeddings__width=table_width,
        attention__heads=width // 64,
        feed_forward__width=4 * width,
    )


SIZES = {
    "small": _size(12, 256, 128),
    "base": BASE,
    "large": _size(24, 1024, 1024),
    "small-generator": _size(12, 256, 128),
    "base-generator": _size(12, 256, 768),
    "large-generator": _size(24, 256, 1024),
}

NAMES = NameTable(
    prefix="electra.",
    names={
        **{theirs: ours for theirs, ours in bert.NAMES.names.items() if not theirs.startswith("pooler.")},
        "embeddings_project.*": "encoder.embeddings.projection.*",
    },
    spellings=bert.NAMES.spellings,
    tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    dropped=bert.NAMES.dropped,
)

HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm", hidden="gelu"),
        {
            "generator_predictions.dense.*": "mlm.dense.*",
            "generator_predictions.LayerNorm.*": "mlm.norm.*",
            "generator_lm_head.bias": "mlm.bias",
        },
    ),
    "rtd": FamilyHead(
        HeadConfig(kind="rtd"),
        {
            "discriminator_predictions.dense.*": "rtd.dense.*",
            "discriminator_predictions.dense_prediction.*": "rtd.output.*",
        },
    ),
    "classify": FamilyHead(
        HeadConfig(kind="classify", reads="first", hidden="gelu"),
        {
            "classifier.dense.*": "classify.hidden.*",
            "classifier.out_proj.*": "classify.output.*",
        },
    ),
    "tag": bert.HEADS["tag"],
    "answer": bert.HEADS["answer"],
    "choose": FamilyHead(
        HeadConfig(kind="choose", reads="first", hidden="gelu", input_dropout=False),
        {
            "sequence_summary.summary.*": "choose.hidden.*",
            **bert.HEADS["choose"].names,
        },
        dropout=("summary_last_dropout",),
    ),
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from ELECTRA's ``config.json``.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    own = frozenset(
        {"embedding_size", "summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout"}
    )
    read = Reader(config)
    read.only("summary_type", "first")
    read.only("summary_use_proj", True)
    read.only("summary_activation", "gelu")
    # where ELECTRA leaves a setting out it means the small size, not BERT's
    small = {"hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "vocab_size": 30_522}
    made = bert.from_hf(small | config, own)
    return made.derive(family="electra", pooler=None, embeddings__width=read.get("embedding_size", 128))


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """ELECTRA's ``config.json`` from our configuration."""
    return bert.to_hf(config) | {"model_type": "electra", "embedding_size": config.embeddings.width}


FAMILY = Family(
    name="electra",
    title="ELECTRA",
    year=2020,
    paper="Clark et al., ELECTRA: Pre-training Text Encoders as Discriminators Rather Than Generators, ICLR 2020",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("rtd",),
    tokenizer="wordpiece",
    stated={"small": 14, "base": 110, "large": 335},
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("Electra", "mlm", "rtd", "classify", "tag", "answer", "choose"),
)
