"""Many texts answered a part at a time, so that memory does not grow with their number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysWarning
from bothways.text.truncation import Truncation

if TYPE_CHECKING:
    from bothways.run.runner import Runner

_TEXTS, _LETTERS = 8192, 1 << 23
"""Texts, and characters, of a part: enough to sort them by length well."""

Answering = Callable[[Sequence[str], Sequence[str] | None], np.ndarray]


def by_parts(model: Runner, texts: Sequence[str], pairs: Sequence[str] | None, answer: Answering) -> np.ndarray:
    """``(texts, ...)`` what `answer` says of texts, or pairs of texts; what is cut of them is said once."""
    if len(texts) <= _TEXTS and sum(map(len, texts)) <= _LETTERS:
        return answer(texts, pairs)
    with one_note(model):
        return np.concatenate([answer(*part) for part in _parts(texts, pairs)])


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
def one_note(model: Runner) -> Iterator[Truncation]:
    """Collects what is cut while a model is asked several times, and says it once; yields what was cut before."""
    before, policy = model.truncated, model.truncation
    model.truncation = "head" if policy == "warn" else policy
    try:
        yield before
    finally:
        model.truncation = policy
    cut = model.truncated - before
    if policy == "warn" and cut.texts and model.max_length is not None:
        warnings.warn(cut.sentence(model.max_length), BothwaysWarning, stacklevel=2)
