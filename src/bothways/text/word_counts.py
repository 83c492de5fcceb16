"""Counting the words of a corpus: all that training a vocabulary needs to know of it.

Words repeat, so the text is first cut at plain spaces, which costs little, and only the distinct stretches between
them are normalised and split the way BERT does. Nothing in BERT's normalisation looks across a space, so the counts
are those of normalising everything.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable

from bothways.errors import BothwaysError
from bothways.text.normalize import Normalization

# Only the spaces that BERT takes for spaces under every setting: others (form feed, U+001C, ...) may be removed instead.
_stretches = re.compile(r"[^ \t\n\r]+").findall

# What is waiting to be split stays below this, so that text without spaces (Chinese) does not pile up.
_WAITING_STRETCHES = 1 << 19
_WAITING_CHARACTERS = 1 << 25


def count_words(texts: Iterable[str], normalization: Normalization | None = None) -> Counter[str]:
    """How often each word occurs in `texts`, after normalisation and splitting at spaces and punctuation.

    The texts are streamed; memory grows with the number of distinct words only.

    Args:
        texts: Paragraphs or whole documents.
        normalization: How they are normalised; None is BERT uncased.

    Raises:
        BothwaysError: A text holds half of a surrogate pair, which stands for no character.
    """
    normalization = normalization or Normalization()
    normalize = normalization.normalizer().normalize_str
    split = normalization.splitter().pre_tokenize_str
    words: Counter[str] = Counter()
    waiting: Counter[str] = Counter()
    characters = 0

    def settle() -> None:
        for stretch, count in waiting.items():
            for word, _ in split(normalize(stretch)):
                words[word] += count
        waiting.clear()

    try:
        for text in texts:
            waiting.update(_stretches(text))
            characters += len(text)
            if len(waiting) > _WAITING_STRETCHES or characters > _WAITING_CHARACTERS:
                settle()
                characters = 0
        settle()
    except UnicodeEncodeError as error:
        message = f"the text {error.object[:40]!r} holds half of a surrogate pair (U+D800 to U+DFFF): remove it"
        raise BothwaysError(message) from None
    return words


def fertility(
    encode: Callable[[str], Iterable[object]], texts: Iterable[str], normalization: Normalization | None = None
) -> float:
    """Tokens per word: 1.0 when every word is a token, higher the more words are cut up.

    To be measured on text that the vocabulary was not trained on.

    Args:
        encode: The tokens of one text, without special tokens.
        texts: The held-out text.
        normalization: What counts as a word; None is BERT uncased. Give both sides of a comparison the same one.

    Raises:
        BothwaysError: The texts hold no word.
    """
    texts = list(texts)
    words = count_words(texts, normalization).total()
    if not words:
        raise BothwaysError("fertility is measured on words, and the texts hold none: give held-out text")
    return sum(sum(1 for _ in encode(text)) for text in texts) / words
