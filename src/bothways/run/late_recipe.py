"""How a model of late interaction reads queries and texts: plain data, and token ids. NumPy only."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.encoded import SPECIAL, Encoded
from bothways.text.tokenizer import Tokenizer
from bothways.text.truncation import Truncation

Expansion = Literal["none", "seen", "unseen"]
PUNCTUATION = tuple(string.punctuation)


@dataclass(frozen=True, kw_only=True)
class LateRecipe:
    """How queries and texts are read (Khattab and Zaharia 2020, section 3.2).

    Attributes:
        query_length: The most tokens of a query, and as many as an expanded one has.
        expand: Whether queries are filled up with mask tokens, which find words of their own: ``"none"``, ``"seen"``
            by the other tokens, or ``"unseen"``, as published models have it.
        query_marker: What stands before queries: a token of the vocabulary, or a text.
        document_marker: What stands before texts.
        skip: Tokens of texts that no query finds.
    """

    query_length: int = 32
    expand: Expansion = "seen"
    query_marker: str = ""
    document_marker: str = ""
    skip: tuple[str, ...] = PUNCTUATION

    @classmethod
    def of(cls, decoding: Mapping[str, Any]) -> LateRecipe:
        """From what a model's folder says."""
        return cls(**{**decoding, "skip": tuple(decoding.get("skip", PUNCTUATION))})

    def to_dict(self) -> dict[str, Any]:
        """As a folder says it."""
        return {**asdict(self), "skip": list(self.skip)}

    def skipped(self, tokenizer: Tokenizer) -> np.ndarray:
        """The ids of the tokens that no query finds."""
        known = (tokenizer.backend.token_to_id(word) for word in self.skip)
        return np.array([place for place in known if place is not None], dtype=np.int64)

    def encode(
        self, tokenizer: Tokenizer, texts: Sequence[str], *, query: bool, max_length: int | None, truncation: str
    ) -> Encoded:
        """Queries, or texts, as tokens.

        Args:
            tokenizer: The model's.
            texts: N of them.
            query: Whether they are queries.
            max_length: The most tokens of a text.
            truncation: What happens to longer texts, as in `Tokenizer.encode`; longer queries are cut.

        Raises:
            BothwaysError: There is no mask token to fill queries up with, or windows are asked for.
        """
        if truncation == "window":
            raise BothwaysError("late interaction reads no text in windows: choose another truncation")
        marker = self.query_marker if query else self.document_marker
        place = tokenizer.backend.token_to_id(marker.strip()) if marker.strip() else None
        if marker and place is None:
            texts = [marker + text for text in texts]
        most = self.query_length if query else max_length
        if query and max_length is not None and most is not None:
            most = min(most, max_length)
        room = None if most is None else most - (place is not None)
        encoded = tokenizer.encode(texts, None, max_length=room, truncation="head" if query else truncation)
        ids = [encoded.sequence(number) for number in range(len(encoded))]
        if place is not None:
            ids = [np.insert(own, 1, place) for own in ids]
        if query and self.expand != "none":
            assert most is not None
            mask = tokenizer.mask_id
            ids = [np.concatenate([own, np.full(most - len(own), mask, own.dtype)]) for own in ids]
        return encoded_of(ids, encoded.truncation)

    def seen(self, token_ids: np.ndarray, mask_id: int, starts: np.ndarray) -> np.ndarray:
        """``(T,)`` booleans: False for mask tokens at the end of a sequence."""
        masked = token_ids == mask_id
        found = np.ones(len(token_ids), dtype=bool)
        for begin, end in pairwise(starts.tolist()):
            own = masked[begin:end][::-1]
            found[end - (len(own) if own.all() else int(own.argmin())) : end] = False
        return found


def encoded_of(ids: Sequence[np.ndarray], truncation: Truncation) -> Encoded:
    """Sequences of token ids as one flat value."""
    starts = np.concatenate(([0], np.cumsum([len(own) for own in ids]))).astype(np.int64)
    flat = np.concatenate(ids).astype(np.int32) if ids else np.empty(0, dtype=np.int32)
    nothing = np.zeros(len(flat), dtype=np.int8)
    sources, places = np.full(len(flat), SPECIAL, dtype=np.int8), np.arange(len(ids))
    return Encoded(flat, nothing, starts, places, None, None, sources, truncation, np.zeros(len(ids), dtype=np.int64))
