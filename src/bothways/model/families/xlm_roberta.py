"""XLM-R: Conneau et al., 2019, "Unsupervised Cross-lingual Representation Learning at Scale".

RoBERTa in a hundred languages. Differences from BERT are those of RoBERTa (see there), and

- Unigram pieces of SentencePiece, 250,002 tokens: the token table is two thirds of the base model;
- pre-trained on masked tokens of single texts in one language each, without telling which.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.families import roberta

_OWN: dict[str, Any] = {"family": "xlm-roberta", "embeddings__vocab_size": 250_002}

SIZES = {"base": roberta.BASE.derive(**_OWN), "large": roberta.LARGE.derive(**_OWN)}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from XLM-R's ``config.json``, which has RoBERTa's keys.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    return roberta.from_hf(config).derive(family="xlm-roberta")


FAMILY = replace(
    roberta.FAMILY,
    name="xlm-roberta",
    title="XLM-R",
    paper="Conneau et al., Unsupervised Cross-lingual Representation Learning at Scale (XLM-R), ACL 2020",
    sizes=SIZES,
    tokenizer="unigram",
    stated={"base": 270, "large": 550},
    from_hf=from_hf,
    architectures={heads: f"XLM{name}" for heads, name in roberta.FAMILY.architectures.items()},
)
