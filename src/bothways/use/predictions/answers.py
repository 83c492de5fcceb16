"""Answers to questions, found in texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import Columns, find_column, read_examples
from bothways.text.rows import Rows, read_rows
from bothways.use.predictions.shared import TABLES, Asked, Question, Wish, beside
from bothways.use.writers import Slice

if TYPE_CHECKING:
    from bothways.run.model import Model

_QUESTIONS = ("question", "query")
_CONTEXTS = ("context", "passage", "paragraph", "document", "text", "article")
_IDS = ("id", "qid", "question_id", "query_id", "example_id")


def answer(model: Model, source: Any, wish: Wish) -> Question:
    """The ``prediction``, empty where the text holds no answer; its ``probability``, ``start`` and ``end``.

    Of several wanted answers the ``candidates`` are listed too.
    """
    rows = read_rows(source)

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

    lowered = {name.lower(): name for name in rows.columns}
    number = next((lowered[name] for name in _IDS if name in lowered), None)

    def by_id(columns: Slice) -> Slice:
        if number is None:
            listed = ", ".join(rows.columns)
            raise BothwaysError(
                f"answers go into .json by the ids of their questions, and {rows.name} has none (columns: {listed}); "
                "write .jsonl, or add a column id"
            )
        return {number: columns[number], "prediction": columns["prediction"]}

    return Question(_rows(rows, number, wish), answers, dict.fromkeys(TABLES, dict) | {".json": by_id})


def _rows(rows: Rows, number: str | None, wish: Wish) -> Iterator[Asked]:
    question = find_column(rows, wish.question, _QUESTIONS, "question")
    context = find_column(rows, wish.context, _CONTEXTS, "context")
    shown = [question] if number is None else [number, question]
    for example in read_examples(rows, Columns(question, context)):
        if not example.text.strip():
            raise BothwaysError(f"{example.where}: the question in the column {question!r} is empty")
        yield Asked((example.text, example.text_pair), beside(rows, example.row, shown, wish.keep))
