"""Documents cut into passages: on the borders of sentences, neighbours sharing some, none too long to read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.sentences import split_sentences

if TYPE_CHECKING:
    from bothways.text.tokenizer import Tokenizer

LONGEST = 256
"""Tokens of a passage where the model would take more: one vector says little of a longer text."""


class Splitter:
    """Cuts texts into passages.

    Args:
        tokenizer: Counts the tokens.
        longest: The most tokens of a passage, special ones counted.
        overlap: Up to so many tokens, in whole sentences, stand in two neighbouring passages.

    Raises:
        BothwaysError: The numbers leave no room for text.
    """

    def __init__(self, tokenizer: Tokenizer, longest: int, overlap: int) -> None:
        self._tokenizer = tokenizer
        self._special = len(tokenizer.encode([""]).token_ids)
        self.longest, self.overlap = longest, overlap
        if longest - self._special < 8:
            raise BothwaysError(f"a passage of passage_tokens={longest} tokens is too short for a sentence; try 128")
        if not 0 <= overlap <= (longest - self._special) // 2:
            raise BothwaysError(
                f"passages of {longest} tokens can share none to {(longest - self._special) // 2}, not {overlap=}"
            )

    def passages(self, texts: Sequence[str], heads: Sequence[str] | None = None) -> list[list[str]]:
        """The passages of each text.

        Args:
            texts: Documents; line breaks end paragraphs, and a paragraph's end is a sentence's.
            heads: What stands before every passage of a text, such as its title.

        Returns:
            For each text its passages in order; a text that is short enough is one passage, as it is. An empty text has
            none.
        """
        heads = heads or [""] * len(texts)
        whole = self._lengths([*texts, *heads])
        return [
            list(self._cut(text.strip(), head, length, head_length))
            for text, head, length, head_length in zip(texts, heads, whole, whole[len(texts) :], strict=False)
        ]

    def _cut(self, text: str, head: str, length: int, head_length: int) -> Iterator[str]:
        room = self.longest - self._special
        if head and head_length > room // 2:  # a title that long is no title
            text, head, length, head_length = f"{head}\n{text}".strip(), "", length + head_length, 0
        room -= head_length
        before = f"{head}\n" if head else ""
        if length <= room:
            if text or head:
                yield f"{before}{text}".strip()
            return
        sentences = [sentence for line in text.splitlines() for sentence in split_sentences(line)]
        pieces = [piece for sentence in self._measured(sentences) for piece in self._short(*sentence, room)]
        begin = 0
        while begin < len(pieces):
            end, used = begin, 0
            while end < len(pieces) and (end == begin or used + pieces[end][1] <= room):
                used += pieces[end][1]
                end += 1
            yield before + " ".join(piece for piece, _ in pieces[begin:end])
            if end == len(pieces):
                return
            begin = self._back(pieces, begin, end)

    def _back(self, pieces: Sequence[tuple[str, int]], begin: int, end: int) -> int:
        """Where the next passage begins, so that it shares at most `overlap` tokens with the one before."""
        shared, place = 0, end
        while place - 1 > begin and shared + pieces[place - 1][1] <= self.overlap:
            place -= 1
            shared += pieces[place][1]
        return place

    def _short(self, sentence: str, length: int, room: int) -> Iterator[tuple[str, int]]:
        """A sentence, or its halves' halves where it is longer than a passage."""
        if length <= room:
            yield sentence, length
            return
        middle = sentence.rfind(" ", 1, len(sentence) // 2 + 1)
        middle = middle if middle > 0 else len(sentence) // 2
        for part in self._measured([sentence[:middle].strip(), sentence[middle:].strip()]):
            yield from self._short(*part, room)

    def _measured(self, sentences: Sequence[str]) -> list[tuple[str, int]]:
        """Sentences with their lengths in tokens."""
        return list(zip(sentences, self._lengths(sentences), strict=True))

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        found: list[int] = np.diff(self._tokenizer.encode(list(texts), special_tokens=False).starts).tolist()
        return found
