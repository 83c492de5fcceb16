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
_WORDS = (
    r"(?<![\p{L}\p{N}])(?:\p{L}\.){2,}",  # U.N.
    r"\p{N}+(?:[.,:]\p{N}+)*(?![\p{L}\p{M}\p{N}])",  # 1,000.50
    r"\p{Han}",
    r"[^\s\p{P}\p{S}\p{Han}]+",
    r"[\p{P}\p{S}]",
)
_SURROGATES = re.compile("[\ud800-\udfff]")  # halves of pairs have no UTF-8


def word_offsets(text: str, *, by_spaces: bool = False) -> Offsets:
    """Where the words of a text stand.

    Args:
        text: Any.
        by_spaces: Whether only white space parts words; else marks and Chinese characters are words of their own too,
            but for the marks inside initials and numbers.
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
    from tokenizers.pre_tokenizers import Split

    return Split(Regex("|".join(_WORDS)), "removed", invert=True)
