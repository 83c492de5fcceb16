"""Occlusion: what is lost when a word is masked (Zeiler and Fergus 2014, section 4; Li, Monroe and Jurafsky 2016).

Works with any engine, in any precision. A word that another one repeats loses little, however much both say together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bothways.use.explain.subject import Subject
from bothways.use.explain.targets import Target


def numbers(subject: Subject, target: Target, ids_NL: np.ndarray) -> np.ndarray:
    """``(N,)`` float64 a target's numbers for variants of a subject, ``(N, L)`` ids."""
    found = np.empty(len(ids_NL))
    engine, length = subject.model.engine, ids_NL.shape[1]
    for begin, batch in _batches(subject, target, ids_NL, max(1, engine.batch_tokens // length)):
        for ran, values in engine.run([batch], target.output):
            shaped = values if len(values) == ran.sequences else values.reshape(ran.sequences, length, -1)
            found[begin + ran.rows] = target.numbers(shaped.astype(np.float64), np)
    return found


def _batches(subject: Subject, target: Target, ids_NL: np.ndarray, at_once: int) -> Iterator[tuple]:
    for begin in range(0, len(ids_NL), at_once):
        yield begin, subject.batch(ids_NL[begin : begin + at_once], target.output.kind)


def occlusion(subject: Subject, target: Target) -> np.ndarray:
    """``(W,)`` float64: how much lower the number is without each word."""
    variants = [subject.ids, *(subject.without(one) for one in np.eye(len(subject.words), dtype=bool))]
    found = numbers(subject, target, np.stack(variants))
    return found[0] - found[1:]
