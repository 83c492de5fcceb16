"""A text, or a pair, as one sequence whose words can be masked.

Shapes: L tokens of the sequence, W words, N variants of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.text.encoded import Encoded

if TYPE_CHECKING:
    from bothways.run.runner import Runner


@dataclass(frozen=True)
class Place:
    """Where a word is.

    Attributes:
        source: 0 for the first text, 1 for the second.
        start: Its first character.
        end: The one behind its last.
        tokens: ``(n,)`` its tokens in the sequence.
    """

    source: int
    start: int
    end: int
    tokens: np.ndarray


@dataclass(frozen=True)
class Subject:
    """What is explained.

    Attributes:
        model: What reads it.
        texts: The text, and the second one of a pair.
        encoded: It as a sequence.
        words: Its W words.
        masked: ``(L,)`` the ids with a mask in place of every token of a word.
    """

    model: Runner
    texts: tuple[str, ...]
    encoded: Encoded
    words: tuple[Place, ...]
    masked: np.ndarray

    @classmethod
    def of(cls, model: Runner, text: str, pair: str | None, before: str = "") -> Subject:
        """Reads a text, or a pair; what is too long is cut at its end.

        Args:
            model: What reads it.
            text: The text.
            pair: The second text of a pair.
            before: A prompt before the text, whose words are not among those that are explained.

        Raises:
            BothwaysError: There is no word in it, or the model knows no mask.
        """
        tokenizer = model.tokenizer
        encoded = tokenizer.encode(
            [before + text],
            None if pair is None else [pair],
            max_length=model.max_length,
            truncation="head",
            offsets=True,
        )
        mask = tokenizer.roles.get("mask", tokenizer.roles.get("unk"))
        if mask is None:
            raise BothwaysError(f"{model.name} has no token that can stand for a word that is not known")
        words = tuple(_words(encoded, len(before)))
        if not words:
            raise BothwaysError("there is no word in this text")
        masked = encoded.token_ids.copy()
        masked[np.concatenate([word.tokens for word in words])] = mask
        return cls(model, (text,) if pair is None else (text, pair), encoded, words, masked)

    @property
    def ids(self) -> np.ndarray:
        """``(L,)`` the tokens as they are."""
        return self.encoded.token_ids

    def without(self, words: np.ndarray) -> np.ndarray:
        """``(L,)`` the ids with those words masked.

        Args:
            words: ``(W,)`` which words.
        """
        ids = self.ids.copy()
        for place in np.flatnonzero(words):
            tokens = self.words[place].tokens
            ids[tokens] = self.masked[tokens]
        return ids

    def batch(self, ids_NL: np.ndarray, kind: str) -> TokenBatch:
        """Variants of the sequence as a batch.

        Args:
            ids_NL: ``(N, L)`` their tokens.
            kind: Of the head that reads them, which may want some tokens to be global.
        """
        count, length = ids_NL.shape
        batch = TokenBatch(
            token_ids=ids_NL.reshape(-1).astype(np.int64),
            segment_ids=np.tile(self.encoded.segment_ids, count).astype(np.int64),
            positions=np.tile(np.arange(length), count),
            starts=np.arange(count + 1) * length,
            rows=np.arange(count),
        )
        return self.model.mark(batch, kind) if kind in self.model.head_configs else batch

    def token_at(self, source: int, character: int) -> int:
        """The first token that covers a character of a text; its place in the sequence.

        Raises:
            BothwaysError: That part of the text was cut.
        """
        assert self.encoded.offsets is not None
        starts, ends = self.encoded.offsets.T
        there = (self.encoded.sources == source) & (starts <= character) & (character < ends)
        if not there.any():
            raise BothwaysError(
                f"what is to be explained stands beyond the {len(self.ids)} tokens that {self.model.name} reads at once"
            )
        return int(there.argmax())


def _words(encoded: Encoded, before: int) -> Iterator[Place]:
    assert encoded.word_ids is not None
    assert encoded.offsets is not None
    names = list(zip(encoded.sources.tolist(), encoded.word_ids.tolist(), strict=True))
    for source, word in dict.fromkeys(name for name in names if name[1] >= 0):
        tokens = np.flatnonzero((encoded.sources == source) & (encoded.word_ids == word))
        starts, ends = encoded.offsets[tokens].T - before
        if ends.max() > max(0, starts.min()):
            yield Place(source, max(0, int(starts.min())), int(ends.max()), tokens)
