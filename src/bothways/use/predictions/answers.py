"""Answers to questions, found in texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import Columns, find_column, read_examples
from bothways.text.questions import CONTEXT_NAMES, ID_NAMES, QUESTION_NAMES, read_unanswered
from bothways.text.questions import Question as Given
from bothways.text.rows import Rows
from bothways.use.formats import Slice
from bothways.use.predictions.shared import TABLES, Asked, Question, Wish, beside

if TYPE_CHECKING:
    from bothways.run.questions import Questions


def answer(model: Questions, source: Any, wish: Wish) -> Question:
    """The ``prediction``, empty where the text holds no answer; its ``probability``, ``start`` and ``end``.

    Where several answers are wished for, the ``candidates`` are listed too.
    """

    def answers(questions: list[str], contexts: list[str]) -> Slice:
        found = model.answer(questions, contexts, top=wish.top)
        columns: dict[str, Any] = {
            "prediction": [one.text for one in found],
            "probability": [one.probability for one in found],
            "start": [one.start for one in found],
            "end": [one.end for one in found],
        }
        if wish.top > 1:
            columns["candidates"] = [[asdict(candidate) for candidate in one.candidates] for one in found]
        return columns

    given = read_unanswered(source)
    table = isinstance(given, Rows)
    rows = _from_rows(given, wish) if isinstance(given, Rows) else _from_files(given, wish.keep)
    kinds = dict.fromkeys(TABLES, dict) | {".json": _by_id}
    return Question(rows, answers, kinds, source if table else None)


def _from_files(given: Iterator[Given], keep: bool) -> Iterator[Asked]:
    for one in given:
        beside = {"id": one.id, "question": one.question} | ({"context": one.context} if keep else {})
        yield Asked((one.question, one.context), beside)


def _from_rows(rows: Rows, wish: Wish) -> Iterator[Asked]:
    question = find_column(rows, wish.question, QUESTION_NAMES, "question")
    context = find_column(rows, wish.context, CONTEXT_NAMES, "context")
    numbers = [name for name in ID_NAMES if name in rows.columns][:1]
    for example in read_examples(rows, Columns(question, context)):
        if not example.text.strip():
            raise BothwaysError(f"{example.where}: the question in the column {question!r} is empty")
        given = beside(rows, example.row, [*numbers, question], wish.keep, example.where)
        yield Asked((example.text, example.text_pair), given, example.where)


def _by_id(columns: Slice) -> Slice:
    number = next((name for name in ID_NAMES if name in columns), None)
    if number is None:
        raise BothwaysError(
            "answers go into .json by the ids of their questions, and the questions have none; write .jsonl, or add a "
            "column id"
        )
    return {number: columns[number], "prediction": columns["prediction"]}
