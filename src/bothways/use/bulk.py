"""A file in, a file out: predictions or vectors for texts without number, in memory that does not grow.

Rows are read, answered and written a window at a time, and stand in the output as they stood in the input. Whatever
ends a job, a kill or a full disk, the same call goes on after the rows that it has answered (`bothways.use.draft`), and
the output is the same to the byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.run.answering import vectors
from bothways.run.pooling import check_pooling
from bothways.use.formats import Slice
from bothways.use.identity import settings_of
from bothways.use.job import BulkResult, How, run_job
from bothways.use.predictions import ENDINGS
from bothways.use.predictions import question as ask
from bothways.use.predictions.shared import Question, Wish, ask_texts
from bothways.use.target import find_target

if TYPE_CHECKING:
    from bothways.run.questions import Questions

PREDICTIONS = ENDINGS
VECTORS = (".npy", ".jsonl", ".parquet", ".csv", ".tsv")

__all__ = ["PREDICTIONS", "VECTORS", "BulkResult", "embed", "predict"]


def predict(
    model: Questions,
    source: Any,
    out: str | Path,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    lines: bool = False,
    question: str | None = None,
    context: str | None = None,
    prompt: str | None = None,
    choices: str | None = None,
    labels: Sequence[str] | None = None,
    template: str | None = None,
    several: bool = False,
    top: int = 1,
    keep: bool = False,
    shard_rows: int | None = None,
    on: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
) -> BulkResult:
    """Asks a model about every row of a source; what is asked follows from what it was fine-tuned for.

    Args:
        model: A fine-tuned model, or with `labels` a classifier of pairs that knows what follows from a text.
        source: A table: a file, a folder of files, ``-`` for standard input, a frame, whatever `read_rows` takes; or
            files of the task's own forms; or texts without columns, as `read_texts` takes them.
        out: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet`` file, the first three also compressed (``.csv.gz``,
            ``.jsonl.zst``), a folder of such files, or ``-`` for JSON lines on standard output; for tags also
            ``.conll``, for answers ``.json`` with texts by ids. Each row has what was read, the ``prediction`` and its
            ``probability``, and what else the task tells (`bothways.use.predictions`).
        text: The column of texts, or for tags of lists of words; it and the next ones are found by usual names when not
            given.
        text_pair: The column of second texts, for models of pairs.
        lines: Whether each line of a file, or of standard input, is a text, whatever its name.
        question: The column of questions, for answers.
        context: The column of the texts that answer them.
        prompt: The column of prompts, for choices.
        choices: The column of lists of choices.
        labels: Classes in words, which need no training.
        template: A sentence with ``{}`` where such a class goes.
        several: Whether a text may have several such classes, or none.
        top: How many answers to a question are listed.
        keep: Whether all columns of the input stand in the output.
        shard_rows: Makes `out` a folder of files with so many rows each. A name without an ending is such a folder too.
        on: ``"ray"`` to answer on a cluster of Ray's; None answers here.
        workers: How many processes of the cluster.
        overwrite: Whether an output that is there already is replaced; of folders those of shards alone, and never what
            is read.
        resume: Whether a job that was interrupted is gone on with; else what it answered is thrown away.

    Raises:
        BothwaysError: The model was not fine-tuned, a column is absent, a row does not do, the output cannot be
            written or would replace something else, or an interrupted job had other settings.
    """
    wish = Wish(
        text=text,
        text_pair=text_pair,
        lines=lines,
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
    how = How(overwrite=overwrite, resume=resume, shard_rows=shard_rows, on=on, workers=workers)
    find_target(out, PREDICTIONS, shard_rows=shard_rows, overwrite=overwrite, reads=[source])
    settings = {"job": "predict", **asdict(wish), **settings_of(model)}
    return run_job(model, ask(model, source, wish), out, settings, how)


def embed(
    model: Questions,
    source: Any,
    out: str | Path,
    *,
    text: str | None = None,
    lines: bool = False,
    pooling: str | None = None,
    normalize: bool | None = None,
    prompt: str | None = None,
    dims: int | None = None,
    shard_rows: int | None = None,
    on: str | None = None,
    workers: int | None = None,
    overwrite: bool = False,
    resume: bool = True,
) -> BulkResult:
    """Turns every row of a source into a vector.

    Args:
        model: Any model.
        source: A table with a column of texts, or texts without columns, as for `predict`.
        out: A ``.npy`` (vectors alone, ``(rows, D)`` float32), ``.jsonl``, ``.csv`` or ``.tsv`` (these also compressed)
            or ``.parquet`` file (text and ``vector``), a folder of such files, or ``-``.
        text: The column of texts; found by its name when not given.
        lines: Whether each line of a file, or of standard input, is a text, whatever its name.
        pooling: As in `Questions.embed`.
        normalize: As in `Questions.embed`, and so are the next two.
        prompt: What is put before each text.
        dims: How many values of a vector are kept.
        shard_rows: As for `predict`, and so are the next ones.
        on: Where it is computed.
        workers: How many processes of the cluster.
        overwrite: Whether an output that is there already is replaced.
        resume: Whether a job that was interrupted is gone on with.

    Raises:
        BothwaysError: There is no such pooling, the model was trained for other vectors, a column is absent, the output
            cannot be written, or an interrupted job had other settings.
    """
    for kind, made in (("sparse", "sparse vectors"), ("late", "a vector a token")):
        if pooling is None and kind in model.decoding:
            raise BothwaysError(
                f"{model.name} was trained for {made}, not for one vector a text; where the mean of its "
                "tokens is wanted all the same, embed takes --pooling mean (in Python pooling='mean')"
            )
    recipe = model.sentence
    pooling = check_pooling(pooling or recipe.pooling)
    scaled = recipe.normalize if normalize is None else normalize
    vectors.check(model, vectors.Wish(pooling, scaled, prompt, dims))
    find_target(out, VECTORS, shard_rows=shard_rows, overwrite=overwrite, reads=[source])

    def answer(texts: list[str]) -> Slice:
        return {"vector": model.embed(texts, pooling, normalize=scaled, prompt=prompt, dims=dims)}

    rows = ask_texts(source, Wish(text=text, lines=lines), pairs=False)
    asked = Question(rows, answer, dict.fromkeys(VECTORS, dict), table=source)
    settings: dict[str, Any] = {"job": "embed", "text": text, "lines": lines, "pooling": pooling, "normalize": scaled}
    settings |= {"prompt": recipe.prompt(prompt), "dims": dims}
    how = How(overwrite=overwrite, resume=resume, shard_rows=shard_rows, on=on, workers=workers)
    return run_job(model, asked, out, {**settings, **settings_of(model)}, how)
