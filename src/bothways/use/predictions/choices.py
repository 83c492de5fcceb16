"""One of several texts, chosen for a prompt."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from bothways.text.choices import read_choices
from bothways.text.rows import Rows, read_rows
from bothways.use.formats import Slice
from bothways.use.predictions.shared import Asked, Question, Wish, beside

if TYPE_CHECKING:
    from bothways.run.questions import Questions


def choose(model: Questions, source: Any, wish: Wish) -> Question:
    """The ``prediction``: the number of the best choice from 0, its text as ``choice``, the ``probability`` of each."""

    def answer(prompts: list[str], choices: list[tuple[str, ...]]) -> Slice:
        found = model.choose(prompts, choices)
        return {
            "prediction": [one.number for one in found],
            "choice": [one.text for one in found],
            "probability": [one.probability for one in found],
            "probabilities": [list(one.probabilities) for one in found],
        }

    return Question(_rows(read_rows(source), wish), answer, table=source)


def _rows(rows: Rows, wish: Wish) -> Iterator[Asked]:
    passed: dict[str, Any] = {}

    def watched(only: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        nonlocal passed
        for where, row in rows.located(only):
            passed = row
            yield where, row

    watching = Rows(rows.columns, rows.name, watched)
    for one in read_choices(watching, wish.prompt, wish.choices, labelled=False):
        given = beside(rows, passed, [], wish.keep, one.where)
        yield Asked((one.prompt, one.choices), given if wish.keep else {"prompt": one.prompt}, one.where)
