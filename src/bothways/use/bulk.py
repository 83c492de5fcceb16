"""A file in, a file out: predictions or vectors for texts without number, in memory that does not grow.

Rows are read, answered and written a slice at a time, and stand in the output as they stood in the input.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.progress import progress
from bothways.text.columns import Columns, infer_columns, read_examples
from bothways.text.rows import read_rows
from bothways.text.truncation import Truncation
from bothways.use.writers import Slice, open_writer

if TYPE_CHECKING:
    from bothways.run.model import Model

SLICE = 2048
"""Texts answered at a time: enough to sort them by length well, few enough for any memory."""
PREDICTIONS = (".csv", ".tsv", ".jsonl", ".parquet")
VECTORS = (".npy", ".jsonl", ".parquet")


@dataclass(frozen=True)
class BulkResult:
    """What was done.

    Attributes:
        texts: Texts (or pairs) answered.
        seconds: How long it took.
        truncation: What was cut.
        out: Where the answers are.
    """

    texts: int
    seconds: float
    truncation: Truncation
    out: str


def predict(
    model: Model,
    source: Any,
    out: str | Path,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    overwrite: bool = False,
) -> BulkResult:
    """Classifies every row of a source.

    Args:
        model: A model with a classifier.
        source: A table with a column of texts: a file, ``-`` for standard input, a frame, whatever `read_rows` takes.
        out: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or ``-`` for JSON lines on standard output. Each row
            has its text, the likeliest ``prediction``, its ``probability``, and the probability of each label in a
            column ``p(label)``.
        text: The column of texts; found by its name when not given.
        text_pair: The column of second texts, for models trained on pairs.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        BothwaysError: The model has no classifier, a column is absent, or the output cannot be written.
    """
    if not model.labels:
        has = ", ".join(model.heads) or "none"
        raise BothwaysError(f"predict needs a classifier, which {model.name} does not have (its heads: {has})")

    def answer(texts: list[str], pairs: list[str] | None) -> Slice:
        shares = model.class_probabilities(texts, pairs)
        best = shares.argmax(axis=1)
        columns: dict[str, Any] = {
            "prediction": [model.labels[place] for place in best],
            "probability": shares.max(axis=1),
        }
        return columns | {f"p({label})": shares[:, place] for place, label in enumerate(model.labels)}

    return _answer_rows(model, source, out, answer, (text, text_pair), PREDICTIONS, overwrite)


def embed(
    model: Model,
    source: Any,
    out: str | Path,
    *,
    text: str | None = None,
    pooling: str | None = None,
    normalize: bool | None = None,
    overwrite: bool = False,
) -> BulkResult:
    """Turns every row of a source into a vector.

    Args:
        model: Any model.
        source: A table with a column of texts, as for `predict`.
        out: A ``.npy`` (vectors alone, ``(rows, D)`` float32), ``.jsonl`` or ``.parquet`` file (text and ``vector``).
        text: The column of texts; found by its name when not given.
        pooling: As in `Model.embed`.
        normalize: Whether vectors are scaled to length 1; None takes what the model was trained with.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        BothwaysError: There is no such pooling, a column is absent, or the output cannot be written.
    """

    def answer(texts: list[str], _: list[str] | None) -> Slice:
        return {"vector": model.embed(texts, pooling, normalize_vectors=normalize)}

    return _answer_rows(model, source, out, answer, (text, None), VECTORS, overwrite)


def _answer_rows(
    model: Model,
    source: Any,
    out: str | Path,
    answer: Callable[[list[str], list[str] | None], Slice],
    named: tuple[str | None, str | None],
    kinds: tuple[str, ...],
    overwrite: bool,
) -> BulkResult:
    began = time.perf_counter()
    count = 0
    with (
        open_writer(out, kinds, overwrite=overwrite) as writer,
        _one_note(model) as before,
        progress("Reading both ways", unit="texts") as job,
    ):
        for first, second, texts, pairs in _slices(source, *named):
            columns = {first: texts} if pairs is None or second is None else {first: texts, second: pairs}
            writer.write(columns | dict(answer(texts, pairs)))
            count += len(texts)
            job.reach(count)
    return BulkResult(count, time.perf_counter() - began, _since(before, model.truncated), str(out))


def _slices(
    source: Any, text: str | None, text_pair: str | None
) -> Iterator[tuple[str, str | None, list[str], list[str] | None]]:
    """The names of the columns with some thousand texts at a time."""
    rows = read_rows(source)
    found = infer_columns(rows, text=text, text_pair=text_pair, need_label=False)
    examples = read_examples(rows, Columns(found.text, found.text_pair))
    while part := list(islice(examples, SLICE)):
        pairs = None if found.text_pair is None else [example.text_pair or "" for example in part]
        yield found.text, found.text_pair, [example.text for example in part], pairs


@contextmanager
def _one_note(model: Model) -> Iterator[Truncation]:
    """Collects what is cut over all slices, and says it once at the end; yields what was cut before."""
    before, policy = model.truncated, model.truncation
    model.truncation = "head" if policy == "warn" else policy
    try:
        yield before
    finally:
        model.truncation = policy
    cut = _since(before, model.truncated)
    if policy == "warn" and cut.texts and model.max_length is not None:
        warnings.warn(cut.sentence(model.max_length), BothwaysWarning, stacklevel=2)


def _since(before: Truncation, after: Truncation) -> Truncation:
    return Truncation(
        after.texts - before.texts,
        after.tokens - before.tokens,
        after.all_texts - before.all_texts,
        after.all_tokens - before.all_tokens,
    )
