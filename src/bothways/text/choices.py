"""Prompts with several texts of which one goes best: rows as SWAG has them, or with a list of choices."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.text.columns import check_column, is_missing
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Row

PROMPT_NAMES = ("prompt", "question", "context", "premise", "sent1", "text")
CHOICES_NAMES = ("choices", "options", "endings")
LABEL_NAMES = ("label", "answer", "answerKey", "gold")
_NUMBERED = re.compile(r"(?:ending|choice|option)_?(\d+)$")
_NUMBER, _LETTER = re.compile(r"\d+"), re.compile(r"[A-Z]")


@dataclass(frozen=True, slots=True)
class Choosing:
    """A prompt with what may go with it.

    Attributes:
        prompt: A question, a beginning.
        choices: At least two texts.
        label: The place of the right one, from 0; None where none was asked for.
        where: Its place in the source, for messages.
    """

    prompt: str
    choices: tuple[str, ...]
    label: int | None
    where: str


def read_choices(
    source: Any,
    prompt: str | None = None,
    choices: str | None = None,
    label: str | None = None,
    *,
    labelled: bool = True,
) -> Iterator[Choosing]:
    """Reads prompts with their choices.

    Args:
        source: Rows of any kind that `read_rows` takes. The choices stand in one column as a list, or in several:
            ``ending0``, ``ending1``, ... or ``choice1``, ``choice2``, ...; a column ``sent2`` begins each of them.
        prompt: The column of prompts; None takes a usual name.
        choices: The column of lists of choices; None takes a usual name.
        label: The column of right choices: their place from 0, a letter from A, or the text itself; None takes a usual
            name.
        labelled: Whether rows have to say which choice is right.

    Raises:
        BothwaysError: A column is absent, a row has fewer than two choices, or its label is none of them.
    """
    rows = read_rows(source)
    for name in (prompt, choices, label):
        check_column(rows, name)
    asked = prompt or _usual(rows, PROMPT_NAMES, "prompt")
    told = (label or _usual(rows, LABEL_NAMES, "label")) if labelled else None
    numbered = sorted((name for name in rows.columns if _NUMBERED.match(name)), key=_number)
    listed = choices or (None if numbered else _usual(rows, CHOICES_NAMES, "choices"))
    beginning = "sent2" if listed is None and "sent2" in rows.columns else None
    for where, row in rows.located():
        given = _listed(row[listed], where) if listed else [row.get(name) for name in numbered]
        while numbered and not listed and given and (is_missing(given[-1]) or given[-1] == ""):
            given.pop()  # rows may have fewer choices than there are columns
        texts = [_text(one, where, "a choice") for one in given]
        if len(texts) < 2:
            raise BothwaysError(f"{where}: has {len(texts)} choices; give at least two to choose from")
        begun = "" if beginning is None or not row.get(beginning) else f"{row[beginning]} "
        right = None if told is None else _label(row, told, texts, where)
        yield Choosing(_text(row.get(asked), where, f"the {asked}"), tuple(begun + one for one in texts), right, where)


def _usual(rows: Rows, names: tuple[str, ...], what: str) -> str:
    found = next((name for name in names if name in rows.columns), None)
    if found is None:
        raise BothwaysError(
            f"{rows.name} has no column of {what} (columns: {', '.join(rows.columns)}); call it {names[0]!r}, or "
            f"name it with --{what} (in Python {what}=...)"
        )
    return found


def _number(name: str) -> int:
    found = _NUMBERED.match(name)
    assert found is not None
    return int(found.group(1))


def _listed(value: Any, where: str) -> list[Any]:
    if hasattr(value, "tolist"):
        return list(value.tolist())
    if not isinstance(value, list | tuple):
        raise BothwaysError(f"{where}: choices should be a list of texts, not {type(value).__name__} {value!r:.40}")
    return list(value)


def _text(value: Any, where: str, what: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BothwaysError(f"{where}: {what} should be a text, not {value!r:.40}")
    return value


def _label(row: Row, column: str, texts: list[str], where: str) -> int:
    """The place of the right choice. A number is a place; what is written may be a text as well."""
    value: Any = row.get(column)
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():  # as frames have them whose column has gaps
        value = int(value)
    told = str(value).strip()
    place = int(told) if _NUMBER.fullmatch(told) else ord(told) - ord("A") if _LETTER.fullmatch(told) else -1
    if isinstance(value, str) and told in texts:
        if 0 <= place < len(texts) and texts[place] != told:
            raise BothwaysError(
                f"{where}: the label {told!r} may mean choice {texts.index(told)}, whose text it is, or choice "
                f"{place}, whose place it is; give places as numbers in .jsonl or .parquet"
            )
        return texts.index(told)
    if not 0 <= place < len(texts):
        near = closest(told, texts)
        last = chr(ord("A") + len(texts) - 1)
        raise BothwaysError(
            f"{where}: the label {told!r} is none of the {len(texts)} choices; it should be their place, 0 to "
            f"{len(texts) - 1}, a letter, A to {last}, or the text{near}"
        )
    return place
