"""Counting the words of a corpus: all that training a vocabulary needs to know of it.

Words repeat, so the text is first cut at plain spaces, which costs little, and only the distinct stretches between
them are normalised and split the way BERT does. Nothing in BERT's normalisation looks across a space, so the counts
are those of normalising everything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from bothways.text.normalize import Normalization, PlainNormalization

# Only the spaces that BERT takes for spaces under every setting: others (form feed, U+001C) may be removed instead.
_stretches = re.compile(r"[^ \t\n\r]+").findall
_halves = re.compile("[\ud800-\udfff]")

# What is waiting to be split stays below this, so that text without spaces (Chinese) does not pile up.
_WAITING_STRETCHES = 1 << 19
_WAITING_CHARACTERS = 1 << 25


def count_words(
    texts: Iterable[str], normalization: Normalization | PlainNormalization | None = None, most: int | None = None
) -> Counter[str]:
    """How often each word occurs in `texts`, after normalisation and splitting, by BERT at spaces and punctuation.

    The texts are streamed; memory grows with the number of distinct words only.

    Args:
        texts: Paragraphs or whole documents.
        normalization: How they are normalised and split; None is BERT uncased.
        most: The most distinct words that are kept, the frequent ones; while reading there may be twice as many.
    """
    normalization = normalization or Normalization()
    normalize = normalization.normalizer().normalize_str
    split = normalization.splitter().pre_tokenize_str
    words: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    characters = 0

    def settle() -> None:
        for stretch, count in waiting.items():
            try:
                pieces = split(normalize(stretch))
            except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8; the encoder reads it as U+FFFD too
                pieces = split(normalize(_halves.sub("\ufffd", stretch)))
            for word, _ in pieces:
                words[word] += count
        waiting.clear()
        if most is not None and len(words) > 2 * most:
            keep_frequent(words, most)

    for text in texts:
        waiting.update(_stretches(text))
        characters += len(text)
        if len(waiting) > _WAITING_STRETCHES or characters > _WAITING_CHARACTERS:
            settle()
            characters = 0
    settle()
    if most is not None:
        keep_frequent(words, most)
    return words


def keep_frequent(words: Counter[str], most: int) -> None:
    """Removes all but the most frequent words; of equally frequent ones the first in the alphabet stay."""
    for word in sorted(words, key=lambda word: (-words[word], word))[most:]:
        del words[word]
