"""What a model's answers look like, and how they are put together. NumPy only.

Shapes: a text may have several sequences, its windows; all other texts have one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.encoded import Encoded
from bothways.text.kept import Texts
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
        labels: The classes it is put into, likeliest first: one, or where several may hold those above their threshold.
    """

    label: str
    probability: float
    probabilities: dict[str, float]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class TaggedSpan:
    """Neighbouring words of one name, such as an entity.

    Attributes:
        label: Its name, without B- and I-.
        start: Where it begins in the text, in characters.
        end: Where it ends: ``text[start:end]``.
        text: That part of the text.
        probability: The mean of its words' probabilities.
        first: The number of its first word.
        last: The number of its last word.
    """

    label: str
    start: int
    end: int
    text: str
    probability: float
    first: int
    last: int


@dataclass(frozen=True)
class Tagged:
    """What a tagger says of a text of W words.

    Attributes:
        words: The W words.
        offsets: W pairs of characters, ``text[start:end]`` being the word. Words that were given as a list are joined
            by single spaces.
        tags: The tag of each word.
        probabilities: The probability of each word's tag.
        spans: What the tags put together; empty where they are no spans, such as parts of speech.
    """

    words: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    tags: tuple[str, ...]
    probabilities: tuple[float, ...]
    spans: tuple[TaggedSpan, ...]


@dataclass(frozen=True)
class Candidate:
    """A part of a text that may answer a question.

    Attributes:
        text: The part; empty for "no answer".
        start: Where it begins, in characters; -1 for "no answer".
        end: Where it ends: ``context[start:end]``.
        probability: Among all candidates.
        score: The sum of the logits of its beginning and end.
    """

    text: str
    start: int
    end: int
    probability: float
    score: float


@dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
        text: The best candidate's; empty where the text holds no answer.
        start: Where it begins, in characters; -1 where there is none.
        end: Where it ends: ``context[start:end]``.
        probability: Among all candidates. "No answer" is one of them unless the model always answers; above one half,
            it is the answer.
        candidates: The likeliest, best first.
    """

    text: str
    start: int
    end: int
    probability: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Choice:
    """Which of several texts was chosen.

    Attributes:
        number: Its place among them, from 0.
        text: The text.
        probability: Its probability.
        probabilities: Those of all, in their order.
    """

    number: int
    text: str
    probability: float
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Ranked:
    """A text in the order in which texts answer a query.

    Attributes:
        place: Its place among the texts that were given, from 0.
        score: How well it answers, as `Model.score_pairs` says it.
        text: The text.
    """

    place: int
    score: float
    text: str


def as_list(texts: str | Sequence[str]) -> Sequence[str]:
    """One text as a list of one; texts that are kept as they are.

    Raises:
        BothwaysError: Something is not a text.
    """
    if isinstance(texts, str):
        return [texts]
    if isinstance(texts, Texts):
        return texts
    if not isinstance(texts, Iterable):
        raise BothwaysError(f"a text, or several, are wanted, not {type(texts).__name__} {texts!r:.60}")
    found = list(texts)
    for place, one in enumerate(found):
        check_text(one, place)
    return found


def check_text(one: object, place: int) -> None:
    """Raises a BothwaysError where something is not a text.

    Args:
        one: Anything.
        place: Its number among others.
    """
    if not isinstance(one, str):
        raise BothwaysError(f"texts[{place}] is not a string but {type(one).__name__} {one!r:.60}")


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
