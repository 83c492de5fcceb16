"""What a model's answers look like, and how they are put together. NumPy only.

Shapes: a text may have several sequences, its windows; all other texts have one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bothways.text.encoded import Encoded
from bothways.text.spelling import Reading


@dataclass(frozen=True)
class Fill:
    """A token for a masked place.

    Attributes:
        token: The token as in the vocabulary of WordPiece ("word", "##ing"), of other kinds the word without marks.
        probability: Between 0 and 1, over the whole vocabulary.
        text: The text with this token in the place (other masks stay).
    """

    token: str
    probability: float
    text: str


@dataclass(frozen=True)
class Classification:
    """What a classifier says of a text.

    Attributes:
        label: The name of the likeliest class.
        probability: Its probability.
        probabilities: The probability of each class by name.
    """

    label: str
    probability: float
    probabilities: dict[str, float]


def as_list(texts: str | Sequence[str]) -> list[str]:
    """One text as a list of one."""
    return [texts] if isinstance(texts, str) else list(texts)


def mean_by_text(values: np.ndarray, encoded: Encoded) -> np.ndarray:
    """One row a text from one row a sequence: a long text's windows are averaged, weighted by their tokens."""
    if len(encoded) == encoded.truncation.all_texts:
        return values
    weights = encoded.lengths[:, None].astype(np.float32)
    first = np.searchsorted(encoded.texts, np.arange(encoded.truncation.all_texts))
    return np.add.reduceat(values * weights, first, axis=0) / np.add.reduceat(weights, first, axis=0)


def fill_in(before: str, reading: Reading, after: str, *, spaced: bool = False) -> str:
    """A text with a token in the place of a mask; what continues a word is glued to the word before it.

    Args:
        before: The text before the mask.
        reading: What the token reads.
        after: The text behind the mask.
        spaced: Whether a token that begins a word brings the space before it.
    """
    if reading.glued:
        return before.rstrip() + reading.text + after
    needs_space = spaced and before and not before[-1].isspace()
    return f"{before}{' ' if needs_space else ''}{reading.text}{after}"
