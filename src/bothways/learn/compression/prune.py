"""Prunes a model: fewer tokens, fewer layers, narrower layers, each chosen by what given texts need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.compression.feed_forward import suited_width, with_narrower_layers
from bothways.learn.compression.layers import chosen_layers, with_fewer_layers
from bothways.learn.compression.vocabulary import count_tokens, kept_tokens, smaller_tokenizer, with_fewer_tokens
from bothways.run.errand import on_errand
from bothways.run.model import Model
from bothways.text.documents import Source, read_documents

_LOOKED_AT, _COMPARED = 512, 200
"""Texts that layers and inner values are chosen by, and that both models are compared on."""


@dataclass(frozen=True)
class Pruned:
    """What came of pruning.

    Attributes:
        model: The smaller model; the other one stays as it was.
        before: ``parameters``, ``tokens`` (of the vocabulary), ``layers`` and ``feed_forward`` (inner width).
        after: The same of the smaller model.
        layers: The layers that stayed; None where none was to go.
        alike: How alike both answer on texts: ``worst_cosine`` and ``mean_cosine`` of their vectors, of a classifier
            ``equal_decisions``; ``texts`` says on how many.
    """

    model: Model
    before: dict[str, int]
    after: dict[str, int]
    layers: list[int] | None
    alike: dict[str, float]


def prune(
    base: Model,
    texts: Source,
    *,
    vocabulary: bool = False,
    fewest: int = 1,
    tokens: int | None = None,
    layers: int | Sequence[int] | None = None,
    feed_forward: float | None = None,
    held_out: Source | None = None,
) -> Pruned:
    """Makes a model smaller by what texts need.

    Tokens that the texts do not need can go without loss; layers and inner values cost something, most of which further
    training brings back: fine-tune the result, or let it learn from the whole model (``teacher=``).

    Args:
        base: The model; it stays as it is.
        texts: What it is to be used on: files, folders, texts. All are read for the vocabulary, the first 512 for the
            rest.
        vocabulary: Whether tokens go that the texts do not have.
        fewest: Occurrences of a token that stays.
        tokens: The most tokens that stay, beside special ones, letters and bytes.
        layers: How many layers stay, chosen so that the hidden states stay most alike; or which, counted from 0.
        feed_forward: The share of inner values of the feed-forward layers that stays, or their number.
        held_out: Texts that both models are compared on; the first of `texts` where there are none.

    Raises:
        BothwaysError: Nothing is asked for, or something that this model has not.
    """
    if not vocabulary and layers is None and feed_forward is None:
        raise BothwaysError("say what is to be pruned: the vocabulary, layers, or the width of feed-forward layers")
    if not vocabulary and (fewest != 1 or tokens is not None):
        raise BothwaysError("fewest and tokens say which tokens stay; ask for the vocabulary to be pruned too")
    made, chosen = base, None
    some = [text for text, _ in zip(_paragraphs(texts), range(_LOOKED_AT), strict=False)]
    with on_errand():  # what is cut of long texts does not matter here
        if layers is not None:
            chosen = chosen_layers(made, layers, some) if isinstance(layers, int) else list(layers)
            made = with_fewer_layers(made, chosen)
        if feed_forward is not None:
            made = with_narrower_layers(made, suited_width(made.config.feed_forward.width, feed_forward), some)
        if vocabulary:
            counts = count_tokens(made.tokenizer, _paragraphs(texts))
            always = [*base.sentence.prompts.values(), *_marks(base.decoding.get("late", {}))]
            kept = kept_tokens(made.tokenizer, counts, fewest, tokens, always)
            made = with_fewer_tokens(made, *smaller_tokenizer(made.tokenizer, kept))
        compared = some if held_out is None else _paragraphs(held_out)
        alike = _alike(base, made, [text for text, _ in zip(compared, range(_COMPARED), strict=False)])
    return Pruned(made, _figures(base), _figures(made), chosen, alike)


def _paragraphs(source: Source) -> Iterator[str]:
    return (paragraph for document in read_documents(source) for paragraph in document.paragraphs)


def _marks(late: dict[str, Any]) -> list[str]:
    """What stands before texts of late interaction, and what no query finds: their tokens have to stay."""
    return [late.get("query_marker", ""), late.get("document_marker", ""), *late.get("skip", ())]


def _figures(model: Model) -> dict[str, int]:
    return {
        "parameters": model.parameters,
        "tokens": model.config.embeddings.vocab_size,
        "layers": model.config.layers,
        "feed_forward": model.config.feed_forward.width,
    }


def _alike(base: Model, made: Model, texts: list[str]) -> dict[str, float]:
    one, other = (model.embed(texts, normalize=True) for model in (base, made))
    cosines = (one * other).sum(1)
    found = {"texts": len(texts), "worst_cosine": float(cosines.min()), "mean_cosine": float(cosines.mean())}
    head = base.head_configs.get("classify")
    if head is not None and head.problem != "scores":
        given = [[answer.labels for answer in model.classify(texts)] for model in (base, made)]
        found["equal_decisions"] = float(np.mean([a == b for a, b in zip(*given, strict=True)]))
    return found
