"""Words of a text, with where they stand: what taggers work on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers.pre_tokenizers import PreTokenizer

Offsets = list[tuple[int, int]]
"""Pairs of characters: ``text[start:end]`` is a word."""

_SPACES = re.compile(r"\S+")
_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of pairs have no UTF-8


def word_offsets(text: str, *, by_spaces: bool = False) -> Offsets:
    """Where the words of a text stand.

    Args:
        text: Any.
        by_spaces: Whether only white space parts words; else every punctuation mark and every Chinese character is also
            a word of its own.
    """
    if by_spaces:
        return [match.span() for match in _SPACES.finditer(text)]
    return [place for _, place in _splitter().pre_tokenize_str(_SURROGATES.sub("\ufffd", text))]


def joined(words: Sequence[str]) -> tuple[str, Offsets]:
    """Words with single spaces between them, and where they stand."""
    offsets, place = [], 0
    for word in words:
        offsets.append((place, place + len(word)))
        place += len(word) + 1
    return " ".join(words), offsets


@cache
def _splitter() -> PreTokenizer:
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import BertPreTokenizer, Sequence, Split

    return Sequence([BertPreTokenizer(), Split(Regex(r"\p{Han}"), "isolated")])
