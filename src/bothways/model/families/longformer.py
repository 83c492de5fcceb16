"""Longformer: Beltagy, Peters and Cohan, 2020, "Longformer: The Long-Document Transformer".

RoBERTa for long documents. Differences from BERT are those of RoBERTa (see there), and

- a token attends to its neighbours only, 256 to either side in all layers of the published models;
- beside it a few global tokens attend to their whole sequence and are attended to by all of it, so that time and memory
  grow with the length and not with its square; what they see goes through projections of their own;
- which tokens are global is the task's choice: the first for classes of texts, the question's for answers, those of the
  second text for choices, none for masked tokens and tags;
- positions begin in row 2 of a table of 4,098, for texts of 4,096 tokens.

The paper widens windows from layer to layer and leaves gaps in them for its character models only; the published
checkpoints do neither. Here each layer may have its own window, without gaps.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bothways.batch import GlobalRule
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig, WindowAttentionConfig
from bothways.model.families import roberta
from bothways.model.families.family import Family, FamilyHead
from bothways.model.families.hf import Reader, attention_of


def _long(size: EncoderConfig) -> EncoderConfig:
    """A size of RoBERTa with windows, and positions for long texts."""
    attention = WindowAttentionConfig(heads=size.attention.heads, windows=(256,))
    return size.derive(family="longformer", attention=attention, embeddings__positions=4098)


SIZES = {"base-4096": _long(roberta.BASE), "large-4096": _long(roberta.LARGE)}

_THEIRS, _OURS = "encoder.layer.{}.attention.self", "encoder.stack.blocks.{}.attention"

NAMES = replace(
    roberta.NAMES,
    prefix="longformer.",
    names=roberta.NAMES.names
    | {
        f"{_THEIRS}.query_global.*": f"{_OURS}.global_query.*",
        f"{_THEIRS}.key_global.*": f"{_OURS}.global_key.*",
        f"{_THEIRS}.value_global.*": f"{_OURS}.global_value.*",
    },
)


def _head(kind: str, rule: GlobalRule) -> FamilyHead:
    """RoBERTa's head with its choice of global tokens; the published classes know no dropout of the head's own."""
    known = roberta.HEADS[kind]
    return replace(known, config=known.config.derive(global_tokens=rule), dropout=known.dropout[-1:])


HEADS = {
    "mlm": _head("mlm", "none"),
    "classify": _head("classify", "first"),
    "tag": _head("tag", "none"),
    "answer": _head("answer", "first_text"),
    "choose": _head("choose", "second_text"),
}


def from_hf(config: dict[str, Any]) -> EncoderConfig:
    """Our configuration from Longformer's ``config.json``, which counts a window's both sides together.

    Raises:
        BothwaysError: A key is unknown, missing, or has a value this family does not compute.
    """
    own = {"attention_window", "attention_mode", "attention_dilation", "autoregressive", "ignore_attention_mask"}
    read = Reader(config)
    read.only("attention_mode", "longformer")  # this and the next two: switches of the original code
    read.only("autoregressive", False)
    read.only("ignore_attention_mask", False)
    dilation = read.get("attention_dilation", 1)
    if set(dilation if isinstance(dilation, list) else [dilation]) != {1}:
        raise BothwaysError(f"config.json says attention_dilation = {dilation!r}, which is not supported; 1 is")
    stated = read.get("attention_window", 512)
    windows = tuple(stated) if isinstance(stated, list) else (stated,)
    if not all(isinstance(width, int) and width > 0 and width % 2 == 0 for width in windows):
        raise BothwaysError(f"config.json says attention_window = {stated!r}, but windows are even numbers above 0")
    made = roberta.from_hf(config, frozenset(own | {"onnx_export"}))
    attention = WindowAttentionConfig(
        heads=made.attention.heads,
        dropout=made.attention.dropout,
        windows=tuple(width // 2 for width in windows),
    )
    return made.derive(family="longformer", attention=attention)


def to_hf(config: EncoderConfig) -> dict[str, Any]:
    """Longformer's ``config.json`` from our configuration."""
    windows = [2 * window for window in attention_of(config, WindowAttentionConfig).windows]
    windows *= config.layers if len(windows) == 1 else 1
    return roberta.to_hf(config) | {"attention_window": windows}


FAMILY = Family(
    name="longformer",
    title="Longformer",
    year=2020,
    paper="Beltagy et al., Longformer: The Long-Document Transformer, arXiv 2020",
    sizes=SIZES,
    default_size="base-4096",
    heads=HEADS,
    objectives=("mlm",),
    tokenizer="bpe",
    names=NAMES,
    from_hf=from_hf,
    to_hf=to_hf,
    architectures={
        heads: name.replace("Roberta", "Longformer") for heads, name in roberta.FAMILY.architectures.items()
    },
)
