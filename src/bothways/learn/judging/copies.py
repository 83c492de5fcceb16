"""Examples that stand in the data more than once, and those that stand in both training and test data."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from bothways.errors import BothwaysWarning
from bothways.learn.tasks.protocol import Data

_SHOWN = 10


@dataclass(frozen=True)
class Copies:
    """Copies: texts that are equal but for white space and case.

    Attributes:
        overlap: ``(O,)`` the places of the test examples whose text is in the training data too.
        otherwise: How many of them are labelled otherwise there.
        in_train: How many training examples repeat an earlier one.
        in_test: How many test examples repeat an earlier one.
        shown: Some of the overlap: text, what is right in training, what is right in the test.
    """

    overlap: np.ndarray
    otherwise: int
    in_train: int
    in_test: int
    shown: list[tuple[str, str, str]] = field(default_factory=list)


def find_copies(train: Data, test: Data) -> Copies:
    """Compares all texts of two sets, exactly but for white space and case."""
    first: dict[bytes, int] = {}
    for place, digest in enumerate(digests(train.inputs())):
        first.setdefault(digest, place)
    asked = list(digests(test.inputs()))
    overlap = [place for place, digest in enumerate(asked) if digest in first]
    there, here, texts = train.truths(), test.truths(), test.inputs()
    labels = [(there[first[asked[place]]], here[place]) for place in overlap]
    return Copies(
        np.array(overlap, dtype=np.int64),
        sum(one != other for one, other in labels),
        len(train) - len(first),
        len(asked) - len(set(asked)),
        [(texts[place], *both) for place, both in zip(overlap[:_SHOWN], labels, strict=False)],
    )


def overlap_sentence(copies: Copies, test: str, examples: int) -> str:
    """What to know of an overlap; empty if there is none."""
    if not len(copies.overlap):
        return ""
    stand = "stands" if len(copies.overlap) == 1 else "stand"
    some = " ".join(copies.shown[0][0].split())
    return (
        f"{len(copies.overlap):,} of the {examples:,} examples of {test} {stand} in the training data too (such as "
        f"{some if len(some) <= 60 else some[:57] + '...'!r}), so scores on them say little; take them out of one"
    )


def warn_of_overlap(train: Data, test: Data) -> Copies:
    """Finds copies and warns if some are in both sets."""
    copies = find_copies(train, test)
    if sentence := overlap_sentence(copies, test.name, len(test)):
        warnings.warn(sentence, BothwaysWarning, stacklevel=3)
    return copies


def digests(texts: Iterable[str]) -> Iterator[bytes]:
    """Names of texts, the same for those that are alike but for white space and case."""
    return (hashlib.blake2b(text, digest_size=16).digest() for text in _normal(texts))


def _normal(texts: Iterable[str]) -> Iterable[bytes]:
    return (" ".join(text.split()).casefold().encode("utf-8", "surrogatepass") for text in texts)
