"""CamemBERT: Martin et al., 2019, "CamemBERT: a Tasty French Language Model".

RoBERTa in French. Differences from BERT are those of RoBERTa (see there), and

- Unigram pieces of SentencePiece, 32,005 tokens, the special ones ``<s>`` 5, ``<pad>`` 1, ``</s>`` 6, ``<mask>`` 32004;
- pre-trained on masked tokens, whole words at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.families import roberta

_OWN: dict[str, Any] = {"family": "camembert", "embeddings__vocab_size": 32_005}

SIZES = {"base": roberta.BASE.derive(**_OWN), "large": roberta.LARGE.derive(**_OWN)}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from CamemBERT's ``config.json``, which has RoBERTa's keys.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    return roberta.from_hf(config).derive(family="camembert")


FAMILY = replace(
    roberta.FAMILY,
    name="camembert",
    title="CamemBERT",
    paper="Martin et al., CamemBERT: a Tasty French Language Model, ACL 2020",
    sizes=SIZES,
    tokenizer="unigram",
    stated={"base": 110, "large": 335},
    from_hf=from_hf,
    architectures={heads: name.replace("Roberta", "Camembert") for heads, name in roberta.FAMILY.architectures.items()},
)
