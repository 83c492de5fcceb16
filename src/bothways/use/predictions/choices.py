"""One of several texts, chosen for a prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import check_column, find_column
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Row
from bothways.use.predictions.shared import Asked, Question, Wish, beside
from bothways.use.writers import Slice

if TYPE_CHECKING:
    from bothways.run.model import Model

_PROMPTS = ("prompt", "startphrase", "question", "sent1", "ctx", "context", "premise", "text")
_LISTS = ("choices", "options", "endings")
_NUMBERED = re.compile(r"(choice|option|ending|answer)s?[ _]?([0-9]|[a-h])", re.IGNORECASE)


def choose(model: Model, source: Any, wish: Wish) -> Question:
    """The ``prediction``: the number of the best choice from 0, its text as ``choice``, the ``probability`` of each."""
    rows = read_rows(source)
    prompt = find_column(rows, wish.prompt, _PROMPTS, "prompt")
    columns = _columns(rows, wish.choices)

    def answer(prompts: list[str], choices: list[list[str]]) -> Slice:
        found = model.choose(prompts, choices)
        return {
            "prediction": [one.number for one in found],
            "choice": [one.text for one in found],
            "probability": [one.probability for one in found],
            "probabilities": [list(one.probabilities) for one in found],
        }

    return Question(_rows(rows, prompt, columns, wish.keep), answer)


def _columns(rows: Rows, given: Sequence[str]) -> list[str]:
    """The columns of choices: one of lists, or one a choice."""
    for name in given:
        check_column(rows, name)
    numbered = [name for name in rows.columns if _NUMBERED.fullmatch(name)]
    if given or len(numbered) < 2:
        return list(given) or [find_column(rows, None, _LISTS, "choices")]
    return numbered


def _rows(rows: Rows, prompt: str, columns: Sequence[str], keep: bool) -> Iterator[Asked]:
    for where, row in rows.located():
        choices = _choices(row, columns)
        for name, text in [(prompt, row.get(prompt)), *((columns[0], choice) for choice in choices)]:
            if not isinstance(text, str):
                raise BothwaysError(f"{where}: the column {name!r} should hold text, not {text!r:.40}")
        if len(choices) < 2:
            raise BothwaysError(f"{where}: there should be two or more choices, not {len(choices)}")
        yield Asked((row[prompt], choices), beside(rows, row, [prompt], keep))


def _choices(row: Row, columns: Sequence[str]) -> list[Any]:
    if len(columns) > 1:
        return [row.get(name) for name in columns]
    value: Any = row.get(columns[0])
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, list | tuple) else [value]
