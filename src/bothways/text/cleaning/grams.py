"""Words and sequences of words as numbers of 64 bits: what copies and overlaps are found by.

What counts as a word is what is left without case and punctuation, so that a text that was tokenized or cut otherwise
is still the same. Shapes: W words, n words in a sequence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from itertools import groupby
from unicodedata import category, normalize
from zlib import crc32

import numpy as np

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Characters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""
_ODD, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def words_of(text: str) -> list[str]:
    """The words of a text, in small letters; of scripts without spaces the characters.

    Letters keep their marks, and however an accent is written it is the same.
    """
    return _word().findall(normalize("NFC", text).lower())


def hashed(words: list[str]) -> np.ndarray:
    """``(W,)`` uint64: a number a word, the same in every process."""
    if not words:
        return np.empty(0, np.uint64)
    return _mixed(np.fromiter(map(crc32, "\n".join(words).encode("utf-8", "replace").split(b"\n")), np.uint64))


def sequences(words_W: np.ndarray, lengths: Iterable[int]) -> dict[int, np.ndarray]:
    """For each length n the numbers of all sequences of n words: ``(W - n + 1,)`` uint64, empty for a shorter text."""
    wanted = set(lengths)
    found = {}
    rolled = words_W
    for n in range(1, max(wanted, default=0) + 1):
        if n > 1:
            rolled = rolled[:-1] * _ODD + words_W[n - 1 :] if len(rolled) > 1 else rolled[:0]
        if n in wanted:
            found[n] = _mixed(rolled)
    return found


def digest_of(words: list[str]) -> int:
    """A number of 64 bits for a text, by its words alone."""
    return int.from_bytes(blake2b("\n".join(words).encode("utf-8", "replace"), digest_size=8).digest(), "little")


@cache
def _word() -> re.Pattern[str]:
    """A letter or digit of a script without spaces, or a run of others with their marks.

    Made when it is needed, since the list of marks takes some milliseconds.
    """
    letters = rf"[^\W_{UNSPACED}]+"
    mark = rf"(?=[^\0-\u02ff])[{_marks()}]"  # what is no mark is mostly told by the lookahead, which is fast
    return re.compile(f"{letters}(?:(?:{mark})+(?:{letters})?)*|[{UNSPACED}]")


def _marks() -> str:
    """All marks but those of scripts without spaces, as ranges of a set of characters."""
    apart = re.compile(f"[{UNSPACED}]")
    everywhere = (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0))  # where Unicode has marks
    marks = [code for code in everywhere if category(chr(code))[0] == "M" and not apart.match(chr(code))]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(marks), lambda one: one[1] - one[0])]
    return "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in runs)


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers of which every bit depends on all bits."""
    mixed = (numbers ^ (numbers >> np.uint64(32))) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIX
    return np.asarray(mixed ^ (mixed >> np.uint64(32)), dtype=np.uint64)
