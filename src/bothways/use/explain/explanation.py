"""What an explanation is: plain data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A word of what was explained.

    Attributes:
        text: The word.
        start: Where it begins in its text, in characters.
        end: Where it ends: ``text[start:end]``.
        source: 0 for the first text, 1 for the second of a pair.
        weight: What it adds, in the unit of the explanation; below 0 where it speaks against.
    """

    text: str
    start: int
    end: int
    source: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """What each word adds to a number that a model gives.

    Attributes:
        said: What is explained: a class, ``"score"``, ``"similarity"``, a tag, an answer.
        told: The number as the model tells it: a probability, a score, a cosine.
        unit: What weights are in: ``"log-odds"`` (natural logarithm of probability against all else), or as the number.
        value: The number in that unit.
        baseline: The same number with every word masked; with gradients the weights are the difference of the two.
        words: All words, in order, those of the first text first.
        way: How weights were found: ``"gradients"`` or ``"occlusion"``.
        error: By how much the sum of the weights misses that difference, as a share of it; None for occlusion, whose
            weights need not add up.
        cut: Tokens at the end of too long a text that were not read.
    """

    said: str
    told: float
    unit: str
    value: float
    baseline: float
    words: tuple[Word, ...]
    way: str
    error: float | None
    cut: int
