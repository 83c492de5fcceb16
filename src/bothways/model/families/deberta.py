"""DeBERTa: He, Liu, Gao and Chen, 2020, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention".

Differences from BERT:

- byte-level BPE, 50,265 tokens; no segments;
- positions are not added to the tokens; the enhanced mask decoder (`bothways.model.heads.enhanced_mask_decoder`) reads
  their table, which an encoder has with ``embeddings__positions=512``, or where its checkpoint has it;
- layer norms have an epsilon of 1e-7;
- disentangled attention: contents also look at distances and distances at contents, up to 512 tokens away; query, key
  and value are one projection, without a bias for keys;
- there is no pooled output; classes are scored on the first token through a linear layer and GELU;
- pre-trained on masked tokens alone.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.config import DisentangledAttentionConfig, EncoderConfig, HeadConfig
from bothways.model.families import bert
from bothways.model.families.family import Family, FamilyHead, classes
from bothways.model.families.hf import Reader, attention_of

BASE = bert.BASE.derive(
    family="deberta",
    embeddings__vocab_size=50_265,
    embeddings__segments=0,
    embeddings__positions=0,
    embeddings__positions_added=False,
    max_length=512,
    embeddings__norm_eps=1e-7,
    norm_eps=1e-7,
    attention=DisentangledAttentionConfig(heads=12, max_distance=512, fused=True),
    pooler=None,
)
LARGE = BASE.derive(
    layers=24, width=1024, embeddings__width=1024, attention__heads=16, feed_forward__width=4096
)  # fmt: skip

SIZES = {"base": BASE, "large": LARGE, "xlarge": LARGE.derive(layers=48)}

_SELF, _OURS = "encoder.layer.{}.attention.self", "encoder.stack.blocks.{}.attention"

NAMES = replace(
    bert.NAMES,
    prefix="deberta.",
    names={
        **{theirs: ours for theirs, ours in bert.NAMES.names.items() if _SELF not in theirs and "pooler" not in theirs},
        "encoder.rel_embeddings.weight": "encoder.scheme.table.weight",
        f"{_SELF}.in_proj.weight": f"{_OURS}.fused.weight",
        f"{_SELF}.q_bias": f"{_OURS}.query_bias",
        f"{_SELF}.v_bias": f"{_OURS}.value_bias",
        f"{_SELF}.pos_proj.weight": f"{_OURS}.position_key.weight",
        f"{_SELF}.pos_q_proj.*": f"{_OURS}.position_query.*",
    },
    spellings={},
)

_CLASSIFIER_DROPOUT = ("cls_dropout", "hidden_dropout_prob")

HEADS = {
    "mlm": FamilyHead(
        HeadConfig(kind="mlm"),
        {
            "lm_predictions.lm_head.dense.*": "mlm.dense.*",
            "lm_predictions.lm_head.LayerNorm.*": "mlm.norm.*",
            "lm_predictions.lm_head.bias": "mlm.bias",
            **bert.HEADS["mlm"].names,  # what `transformers` calls legacy: read, never written
        },
    ),
    "classify": FamilyHead(
        HeadConfig(kind="classify", reads="first", hidden="gelu", input_dropout=False),
        {
            "pooler.dense.*": "classify.hidden.*",
            **bert.HEADS["classify"].names,
        },
        dropout=_CLASSIFIER_DROPOUT,
    ),
    "tag": replace(bert.HEADS["tag"], dropout=("hidden_dropout_prob",)),
    "answer": bert.HEADS["answer"],
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from DeBERTa's ``config.json``.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    return read(config, fused=True)


def read(config: dict[str, Any], also: frozenset[str] = frozenset(), **attention: Any) -> EncoderConfig:
    """What both kinds of DeBERTa have in their ``config.json``.

    Args:
        config: The file as a dictionary.
        also: Keys that one of them has beside these and reads itself.
        attention: The attention's further settings.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    own = Reader({"relative_attention": False} | config)
    own.only("relative_attention", True)
    own.only("talking_head", False)
    own.only("pooler_hidden_act", "gelu")
    if own.get("pooler_dropout", 0):  # changes training alone, and there little
        message = f"config.json says pooler_dropout = {own.get('pooler_dropout')}, which is not used here"
        warnings.warn(BothwaysWarning(message), stacklevel=2)
    width, heads = own.get("hidden_size", 768), own.get("num_attention_heads", 12)
    for key in ("pooler_hidden_size", "embedding_size"):
        own.only(key, width)
    own.only("attention_head_size", width // heads)
    terms = own.get("pos_att_type", None) or []
    terms = [term.strip() for term in terms.lower().split("|")] if isinstance(terms, str) else terms
    if not terms or set(terms) - {"c2p", "p2c"}:
        raise BothwaysError(f"config.json says pos_att_type = {terms}, which is not supported; c2p, p2c and both are")
    positions, added = own.get("max_position_embeddings", 512), own.get("position_biased_input", True)
    farthest = own.get("max_relative_positions", -1)
    # legacy: which names the masked-token head has in `transformers`; here the names themselves tell
    also |= own.known | {"legacy", "cls_dropout", "padding_idx"}
    made = bert.from_hf({"layer_norm_eps": 1e-7, "type_vocab_size": 0} | config, also)
    return made.derive(
        family="deberta",
        embeddings__positions=positions if added else 0,
        embeddings__positions_added=added,
        max_length=None if added else positions,
        attention=DisentangledAttentionConfig(
            heads=heads,
            dropout=made.attention.dropout,
            position_dropout=made.dropout,
            content_to_position="c2p" in terms,
            position_to_content="p2c" in terms,
            max_distance=farthest if farthest > 0 else positions,
            **attention,
        ),
        pooler=None,
    )


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """DeBERTa's ``config.json`` from our configuration."""
    tables, attention = config.embeddings, attention_of(config, DisentangledAttentionConfig)
    longest = tables.positions if tables.positions_added else config.max_length or attention.max_distance
    terms = {"p2c": attention.position_to_content, "c2p": attention.content_to_position}
    return bert.to_hf(config) | {
        "model_type": "deberta",
        "relative_attention": True,
        "pos_att_type": [name for name, there in terms.items() if there],
        "max_relative_positions": -1 if attention.max_distance == longest else attention.max_distance,
        "max_position_embeddings": longest,
        "position_biased_input": tables.positions_added,
        "pooler_hidden_size": config.width,
        "legacy": False,
    }


FAMILY = Family(
    name="deberta",
    title="DeBERTa",
    year=2020,
    paper="He et al., DeBERTa: Decoding-enhanced BERT with Disentangled Attention, ICLR 2021",
    sizes=SIZES,
    default_size="base",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="bpe",
    mask_decoder="enhanced",
    dropouts=("dropout", "attention__dropout", "attention__position_dropout", "embeddings__dropout"),
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures=classes("Deberta", "mlm", "classify", "tag", "answer"),
)
