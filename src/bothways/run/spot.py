"""From a score a token to the words that look replaced. NumPy only.

Shapes: T tokens of all sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bothways.text.encoded import Encoded


@dataclass(frozen=True)
class Spot:
    """A word, and whether a replaced-token discriminator finds that it does not belong.

    Attributes:
        word: As it stands in the text.
        start: Where it begins in the text, in characters.
        end: Where it ends: ``text[start:end]`` is the word.
        probability: That it was replaced: the highest among its tokens.
    """

    word: str
    start: int
    end: int
    probability: float

    @property
    def replaced(self) -> bool:
        """Whether it is more likely replaced than not."""
        return self.probability > 0.5


def spots(texts: Sequence[str], encoded: Encoded, probabilities_T: np.ndarray) -> list[list[Spot]]:
    """The words of each text in order, with the highest probability of their tokens.

    Args:
        texts: The texts.
        encoded: Their tokens, with offsets.
        probabilities_T: ``(T,)`` how likely each token was replaced. Of a token in two windows the higher one counts.

    Returns:
        A list a text; words that were cut off are not in it.
    """
    assert encoded.offsets is not None
    assert encoded.word_ids is not None
    found: list[dict[int, Spot]] = [{} for _ in texts]
    text_T = np.repeat(encoded.texts, encoded.lengths)
    real = encoded.word_ids >= 0
    columns = (text_T, encoded.word_ids, encoded.offsets[:, 0], encoded.offsets[:, 1], probabilities_T)
    for row, word, start, end, probability in zip(*(column[real].tolist() for column in columns), strict=True):
        known = found[row].get(word)
        if known is not None:
            start, end = min(start, known.start), max(end, known.end)
            probability = max(probability, known.probability)
        found[row][word] = _spot(texts[row], start, end, probability)
    return [[spot for _, spot in sorted(words.items()) if spot.word] for words in found]


def _spot(text: str, start: int, end: int, probability: float) -> Spot:
    """The word without the spaces that some tokenizers count to it."""
    word = text[start:end]
    begin = start + len(word) - len(word.lstrip())
    return Spot(word.strip(), begin, begin + len(word.strip()), probability)
