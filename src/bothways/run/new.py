"""A new model with random weights: a published size, or one that no paper has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.model.compose import changed
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.families import family as family_of
from bothways.model.families.family import Family
from bothways.model.neighbours import AttentionStart
from bothways.run.model import Model
from bothways.text.tokenizer import Tokenizer

_CLASSED = ("classify", "tag")
"""Heads that have classes."""


def new(
    family: str = "bert",
    size: str | None = None,
    *,
    vocab: str | Path | Tokenizer,
    settings: Mapping[str, Any] | None = None,
    heads: Sequence[str] | None = None,
    labels: Sequence[str] = (),
    attention_start: AttentionStart | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Model:
    """A model with random weights, to be pre-trained, fine-tuned or saved.

    Args:
        family: As `bothways families` lists them.
        size: A published size of the family; None for its usual one.
        vocab: A tokenizer, or its folder. The token table gets its size, and the padding id is its own.
        settings: Settings of the encoder by names such as ``"attention.heads"``, with values as Python has them or as
            they are typed (`bothways.model.compose.changed`). Every setting can be changed; ``"attention.kind"`` gives
            another kind of attention, ``"blocks"`` shares blocks between layers.
        heads: Kinds of heads; None for those of the family's objectives.
        labels: Names of the classes of a head that has classes; two without names if not given.
        attention_start: ``"neighbours"``: the first heads look one or two places to the left and right
            (`bothways.model.neighbours`); ``"random"``: as in the papers. None takes the first where the encoder can.
        seed: Of the weights.
        device: Where it lies; None takes a GPU if there is one.

    Raises:
        BothwaysError: There is no such family, size, setting, head or tokenizer, the settings do not go together, or
            attention cannot begin so.

    Example:
        ``bw.new("deberta-v2", "v3-small", vocab="my-tokenizer", settings={"blocks": 1}).save("shared-deberta")``
    """
    members, settings = family_of(family), dict(settings or {})
    config = members.size(size)
    tokenizer = vocab if isinstance(vocab, Tokenizer) else Tokenizer.load(vocab)
    config = changed(config.for_vocabulary(tokenizer.size, tokenizer.pad_id), settings)
    if "init_std" not in settings:
        config = suited_start(config)
    _check_vocabulary(config, tokenizer)
    made = _heads(members, members.objectives if heads is None else heads, tuple(labels))
    keep_pooler = "pooler" in settings
    return Model.random(
        config, tokenizer, made, seed=seed, device=device, keep_pooler=keep_pooler, attention_start=attention_start
    )


def suited_start(config: EncoderConfig) -> EncoderConfig:
    """The same encoder with random weights that suit its width: published ones suit 768; narrower starts stall."""
    return config.derive(init_std=config.init_std * math.sqrt(768 / config.width))


def _check_vocabulary(config: EncoderConfig, tokenizer: Tokenizer) -> None:
    tables = config.embeddings
    if tables.vocab_size < tokenizer.size:
        raise BothwaysError(
            f"embeddings.vocab_size is {tables.vocab_size:,}, but the tokenizer has {tokenizer.size:,} tokens; give "
            "the table as many rows or more"
        )
    if tables.pad_id != tokenizer.pad_id:
        raise BothwaysError(f"embeddings.pad_id is {tables.pad_id}, but the tokenizer's padding is {tokenizer.pad_id}")


def _heads(members: Family, kinds: Sequence[str], labels: tuple[str, ...]) -> list[HeadConfig]:
    if labels and not set(kinds) & set(_CLASSED):
        raise BothwaysError(f"labels are given, but no head with classes; those are {' and '.join(_CLASSED)}")
    unnamed = ("LABEL_0", "LABEL_1")
    return [members.head(kind, labels=(labels or unnamed) if kind in _CLASSED else ()) for kind in dict.fromkeys(kinds)]
