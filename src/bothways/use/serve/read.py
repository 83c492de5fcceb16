"""What a model reads for a request: how much that is, before any of it is made.

A prompt stands before every text, a template is filled in for every class, a query is read with every text: a small
request may make very much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.encoded import room_beside
from bothways.text.truncation import Truncation, cut

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

Pairs = tuple[Sequence[str], Sequence[str] | None]
"""Texts, and their second texts where they are pairs."""


@dataclass(frozen=True)
class Read:
    """The texts, or pairs, that a model reads.

    Attributes:
        texts: How many.
        letters: How many they have, for each entry of what the model is called with.
        make: Makes them.
    """

    texts: int
    letters: Sequence[int]
    make: Callable[[], Pairs]

    @classmethod
    def of(cls, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Read:
        """Texts, or pairs, as they are, each an entry.

        Raises:
            BothwaysError: There are not as many second texts.
        """
        if pairs is not None:
            check_together(texts, pairs)
        letters = [len(text) + len(other) for text, other in zip(texts, pairs or repeat(""), strict=False)]
        return cls(len(texts), letters, lambda: (texts, pairs))

    def counted(self, tokenizer: Tokenizer, limit: int | None) -> Truncation:
        """How many tokens they have, and what of them is cut.

        Args:
            tokenizer: The model's.
            limit: The most tokens of a text or pair; None where nothing is cut.
        """
        texts, pairs = self.make()
        template = tokenizer.single if pairs is None else tokenizer.pair
        room = None if limit is None else room_beside(template, limit)
        lengths = _lengths(tokenizer, texts if pairs is None else [*texts, *pairs])
        second = None if pairs is None else lengths[len(texts) :]
        return cut(lengths[: len(texts)], second, room, "head").truncation


def check_together(one: Sized, other: Sized) -> None:
    """Raises a BothwaysError where two lists are not of the same length."""
    if len(one) != len(other):
        raise BothwaysError(f"two lists do not go together: {len(one):,} entries and {len(other):,}")


def _lengths(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """``(texts,)`` how many tokens each text has; one that is there many times becomes tokens once."""
    places = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    lengths = tokenizer.encode(places, special_tokens=False).lengths
    return lengths[np.fromiter(map(places.__getitem__, texts), dtype=np.int64, count=len(texts))]
