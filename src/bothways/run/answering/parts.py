"""Many texts answered a part at a time, so that memory does not grow with their number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysWarning
from bothways.run.errand import current, on_errand
from bothways.text.truncation import TooLongError

if TYPE_CHECKING:
    from bothways.run.runner import Runner

_TEXTS, _LETTERS = 8192, 1 << 23
"""Texts, and characters, of a part: enough to sort them by length well."""

Answering = Callable[[Sequence[str], Sequence[str] | None], np.ndarray]


def by_parts(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None, answer: Answering) -> np.ndarray:
    """``(texts, ...)`` what `answer` says of texts, or pairs of texts; what is cut of them is said once."""
    if len(texts) <= _TEXTS and sum(map(len, texts)) <= _LETTERS:
        return answer(texts, pairs)
    found: list[np.ndarray] = []
    with said_once(model):
        for part in _parts(texts, pairs):
            try:
                found.append(answer(*part))
            except TooLongError as error:
                raise error.behind(sum(map(len, found))) from None
    return np.concatenate(found)


def _parts(texts: Sequence[str], pairs: Sequence[str] | None) -> Iterator[tuple[list[str], list[str] | None]]:
    some: list[str] = []
    others: list[str] = []
    letters = 0
    for text, other in zip(texts, texts if pairs is None else pairs, strict=True):
        some.append(text)
        others.append(other)
        letters += len(text)
        if len(some) == _TEXTS or letters > _LETTERS:
            yield some, None if pairs is None else others
            some, others, letters = [], [], 0
    if some:
        yield some, None if pairs is None else others


@contextmanager
def said_once(model: Runner) -> Iterator[None]:
    """Collects what is cut while a model is asked several times, and says it once, if nobody else does."""
    if current() is not None:
        yield
        return
    with on_errand() as errand:
        yield
    if model.truncation == "warn" and errand.truncation.texts and model.max_length is not None:
        warnings.warn(errand.truncation.sentence(model.max_length), BothwaysWarning, stacklevel=2)
