"""A file in, a file out: predictions or vectors for texts without number, in memory that does not grow.

Rows are read, answered and written a slice at a time, and stand in the output as they stood in the input.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.progress import progress
from bothways.run.answering.parts import one_note
from bothways.run.memory import give_back
from bothways.text.truncation import Truncation
from bothways.use.predictions import ENDINGS
from bothways.use.predictions import question as ask
from bothways.use.predictions.shared import Question, Wish, ask_texts, parts, together
from bothways.use.writers import Slice, open_writer

if TYPE_CHECKING:
    from bothways.run.model import Model

SLICE = 2048
"""Texts answered at a time: enough to sort them by length well, few enough for any memory."""
PREDICTIONS = ENDINGS
VECTORS = (".npy", ".jsonl", ".parquet")


@dataclass(frozen=True)
class BulkResult:
    """What was done.

    Attributes:
        texts: Texts (pairs, questions) answered.
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
    question: str | None = None,
    context: str | None = None,
    prompt: str | None = None,
    choices: str | None = None,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    several: bool = False,
    top: int = 1,
    keep: bool = False,
    overwrite: bool = False,
) -> BulkResult:
    """Asks a model about every row of a source; what is asked follows from what it was fine-tuned for.

    Args:
        model: A fine-tuned model, or with `labels` a classifier of pairs that knows what follows from a text.
        source: A table: a file, ``-`` for standard input, a frame, whatever `read_rows` takes, or files of the task's
            own forms.
        out: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, or ``-`` for JSON lines on standard output; for tags
            also ``.conll``, for answers ``.json`` with texts by ids. Each row has what was read, the ``prediction`` and
            its ``probability``, and what else the task tells (`bothways.use.predictions`).
        text: The column of texts, or for tags of lists of words; it and the next ones are found by usual names when not
            given.
        text_pair: The column of second texts, for models of pairs.
        question: The column of questions, for answers.
        context: The column of the texts that answer them.
        prompt: The column of prompts, for choices.
        choices: The column of lists of choices.
        labels: Classes in words, which need no training.
        template: A sentence with ``{}`` where such a class goes.
        several: Whether a text may have several such classes, or none.
        top: How many answers to a question are listed.
        keep: Whether all columns of the input stand in the output.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        BothwaysError: The model was not fine-tuned, a column is absent, a row does not do, or the output cannot be
            written.
    """
    wish = Wish(
        text=text,
        text_pair=text_pair,
        question=question,
        context=context,
        prompt=prompt,
        choices=choices,
        labels=tuple(labels or ()),
        template=template,
        several=several,
        top=top,
        keep=keep,
    )
    return _answer_rows(model, ask(model, source, wish), out, overwrite)


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

    def answer(texts: list[str]) -> Slice:
        return {"vector": model.embed(texts, pooling, normalize_vectors=normalize)}

    rows = ask_texts(source, Wish(text=text), pairs=False)
    return _answer_rows(model, Question(rows, answer, dict.fromkeys(VECTORS, dict)), out, overwrite)


def _answer_rows(model: Model, asked: Question, out: str | Path, overwrite: bool) -> BulkResult:
    began = time.perf_counter()
    count = 0
    shape = asked.kinds.get(Path(out).suffix.lower(), dict)
    with (
        open_writer(out, tuple(asked.kinds), overwrite=overwrite) as writer,
        one_note(model) as before,
        progress("Reading both ways", unit="texts") as job,
    ):
        for part in parts(asked.rows, SLICE):
            writer.write(shape(together(part, asked.answer)))
            count += len(part)
            job.reach(count)
            give_back()
    return BulkResult(count, time.perf_counter() - began, model.truncated - before, str(out))
