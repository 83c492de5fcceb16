"""A few held-out texts, the same each time, and what a model in training expects in their masked places.

The model sees whole sequences with all their masks; what is shown is an excerpt with a few of them. Chosen tokens that
training would leave, or replace, are masks here too, so that people see what the model sees.

Shapes: M shown places, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from bothways.learn.objectives.protocol import Together
from bothways.learn.protocol import Item
from bothways.text.tokenizer import Tokenizer

TEXTS = 5
"""Texts that are shown, at most."""
_PLACES, _TOKENS, _BEFORE, _GUESSES = 4, 32, 10, 3
"""Of a text: masked places and tokens that are shown, tokens before the first of these places; of a place: guesses."""
MASK = "[MASK]"


@dataclass(frozen=True)
class _Shown:
    """What people see of a text: its masked places in the batch, the tokens that stood there, and the excerpt."""

    places: np.ndarray
    labels: np.ndarray
    text: str


class Samples:
    """The texts.

    Args:
        items: The batches they are in, with the targets of masked tokens.
        tokenizer: Of the corpus.
    """

    def __init__(self, items: Sequence[Item], tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._batches: list[tuple[Item, list[_Shown]]] = []
        for batch, targets in items:
            token_ids = np.asarray(batch.token_ids).copy()
            token_ids[targets["mlm.places"]] = tokenizer.mask_id
            shown = self._excerpts((batch, targets))
            self._batches.append(((batch.with_tokens(token_ids), targets), shown))

    def guess(self, model: nn.ModuleDict, together: Together) -> list[dict[str, Any]]:
        """What the model expects: plain data, a dictionary a text, as `bothways.learn.insight` describes it."""
        told = []
        for item, excerpts in self._batches:
            places = np.concatenate([each.places for each in excerpts])
            logits_MV = together.guess(model, item, places)[:, : self._tokenizer.size]
            shares, tokens = torch.softmax(logits_MV.float(), -1).topk(min(_GUESSES, logits_MV.shape[1]))
            guesses = iter(zip(tokens.tolist(), shares.tolist(), strict=True))
            for each in excerpts:
                masked = [
                    {
                        "right": self._name(int(label)),
                        "guesses": [
                            [self._name(token), round(share, 4)] for token, share in zip(*next(guesses), strict=True)
                        ],
                    }
                    for label in each.labels
                ]
                told.append({"text": each.text, "masked": masked})
        return told

    def _excerpts(self, item: Item) -> list[_Shown]:
        """What is shown of each sequence that has a masked place."""
        batch, targets = item
        all_places, all_labels = targets["mlm.places"], targets["mlm.labels"]
        original = np.asarray(batch.token_ids).copy()
        original[all_places] = all_labels
        excerpts = []
        for start, end in zip(batch.starts[:-1].tolist(), batch.starts[1:].tolist(), strict=True):
            first, last = np.searchsorted(all_places, (start, end))
            if first == last:
                continue
            begin = max(start, int(all_places[first]) - _BEFORE)
            places = all_places[first:last]
            end = min(end, begin + _TOKENS, *places[_PLACES : _PLACES + 1].tolist())
            places = places[places < end]
            text = self._text(original, begin, places, end)
            excerpts.append(_Shown(places, original[places], text))
        return excerpts

    def _text(self, token_ids: np.ndarray, begin: int, places: np.ndarray, end: int) -> str:
        """The tokens ``begin:end`` as text, with a mask in each of the places."""
        edges = [begin - 1, *places.tolist(), end]
        parts = [self._tokenizer.decode(token_ids[a + 1 : b]) for a, b in pairwise(edges)]
        return " ".join(f" {MASK} ".join(parts).split())

    def _name(self, token_id: int) -> str:
        if self._tokenizer.spelling.marks_beginnings:
            return self._tokenizer.read(token_id).text
        return self._tokenizer.tokens[token_id]
