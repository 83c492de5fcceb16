"""Questions about texts, with the answers that stand in them.

Read are SQuAD's files (1.1 and 2.0, nested), MRQA's lines, the simplified lines of Natural Questions, TriviaQA's files
with their evidence, and plain rows of any table: ``id, context, question, answers``.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.text import trivia
from bothways.text.answer_places import Place, find_aliases, find_place, not_there, place_at
from bothways.text.question_files import name_of, read_objects
from bothways.text.rows import Rows, stream_rows
from bothways.text.tables import Row

QUESTION_NAMES = ("question", "query")
CONTEXT_NAMES = ("context", "passage", "paragraph", "document", "text")
ID_NAMES = ("id", "qid", "question_id", "example_id")
ANSWER_NAMES = ("answers", "answer")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text.

    Attributes:
        id: As the file has it, else where it stands.
        question: The question.
        context: The text that is read for the answer.
        answers: What is right, in words; empty where the text holds no answer.
        places: Where it stands, ``context[start:end]``, in the order of the file; empty where it does not.
        where: Its place in the source, for messages.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...]
    places: tuple[Place, ...]
    where: str


class _Given(NamedTuple):
    """Answers as a row has them: texts, and where they begin, as far as it says."""

    texts: list[str]
    starts: list[int | None]


def read_questions(source: Any) -> list[Question]:
    """Reads questions with their answers.

    Args:
        source: A file, a folder, a list of files, or rows of any kind that `read_rows` takes.

    Raises:
        BothwaysError: A question or context is empty, or an answer does not stand in its context: which, where, and
            what to do. Answers that are a few characters off are repaired.
    """
    shared: dict[str, str] = {}  # a context of several questions is held once
    found = []
    absent = 0
    for where, row, folder in read_objects(source):
        for each in _questions(where, row, folder):
            if each.answers and not each.places:
                absent += 1
            else:
                found.append(replace(each, context=shared.setdefault(each.context, each.context)))
    if absent:
        warnings.warn(
            f"{absent:,} of {absent + len(found):,} documents of {name_of(source)} do not hold any of the answers to "
            "their question and were left out",
            BothwaysWarning,
            stacklevel=2,
        )
    if not found:
        raise BothwaysError(f"{name_of(source)} holds no questions")
    return found


def read_unanswered(source: Any) -> Iterator[Question] | Rows:
    """Questions that are to be answered: whatever answers they have are not looked at.

    Args:
        source: As for `read_questions`.

    Returns:
        The questions of nested files as they are read; other sources as the rows they are.

    Raises:
        BothwaysError: There is nothing to read; and while reading, a question or context is empty.
    """
    objects = read_objects(source)
    first = next(objects, None)
    if first is None:
        raise BothwaysError(f"{name_of(source)} holds no questions")
    every = chain([first], objects)
    if not _is_nested(first[1]):
        return stream_rows(((where, row) for where, row, _ in every), name_of(source))
    return (one for where, row, folder in every for one in _questions(where, row, folder, answered=False))


def _is_nested(row: Row) -> bool:
    lists = any(isinstance(row.get(key), list) for key in ("data", "Data", "paragraphs", "qas"))
    return lists or set(row) == {"header"} or "document_text" in row or trivia.is_trivia(row)


def _questions(where: str, row: Row, folder: Path | None, *, answered: bool = True) -> Iterator[Question]:
    """The questions of one object, whatever its form; where a document does not hold its answers, without places."""
    nested = row.get("data", row.get("Data"))
    if isinstance(nested, list):
        for number, article in enumerate(nested, start=1):
            yield from _questions(f"{where}, article {number}", _mapping(article, where), folder, answered=answered)
    elif isinstance(row.get("paragraphs"), list):
        for number, paragraph in enumerate(row["paragraphs"], start=1):
            yield from _questions(f"{where}, paragraph {number}", _mapping(paragraph, where), folder, answered=answered)
    elif isinstance(row.get("qas"), list):
        for one in row["qas"]:
            asked = _mapping(one, where)
            told = f"{where}, question {_first(asked, ID_NAMES)}"
            yield _plain(told, {**asked, "context": row.get("context")}, answered)
    elif "document_text" in row and "annotations" in row:
        yield _natural(where, row)
    elif trivia.is_trivia(row):
        yield from _from_documents(where, row, folder)
    elif set(row) != {"header"}:  # the first line of an MRQA file
        yield _plain(where, row, answered)


def _mapping(value: Any, where: str) -> Row:
    if not isinstance(value, Mapping):
        raise BothwaysError(f"{where}: should hold JSON objects, not {type(value).__name__}")
    return dict(value)


def _plain(where: str, row: Row, answered: bool) -> Question:
    """A row with a question, a context and its answers."""
    question, context = _text(row, QUESTION_NAMES, where), _text(row, CONTEXT_NAMES, where)
    name = _first(row, ID_NAMES)
    told = where if name is None or where.endswith(f"question {name}") else f"{where}, question {name}"
    key = where if name is None else str(name)
    if not answered:
        return Question(key, question, context, (), (), told)
    if "detected_answers" in row:
        spans = [span for one in row["detected_answers"] for span in _within(one, "char_spans", told)]
        places = [_inclusive(span, context, told) for span in spans]
        texts = [str(text) for text in row.get("answers") or ()] or [context[a:b] for a, b in places]
        return Question(key, question, context, tuple(texts), tuple(places), told)
    impossible = row.get("is_impossible")
    if _is_true(impossible):
        return Question(key, question, context, (), (), told)
    given = _given(row, told)
    if not given.texts and impossible is not None:
        raise BothwaysError(f"{told}: is_impossible is {impossible!r}, but there are no answers")
    places = [_placed(context, text, start, told) for text, start in zip(given.texts, given.starts, strict=True)]
    return Question(key, question, context, tuple(given.texts), tuple(places), told)


def _placed(context: str, text: str, start: int | None, where: str) -> Place:
    place = find_place(context, text) if start is None else place_at(context, text, start)
    if place is None:
        raise BothwaysError(f"{where}: {not_there(context, text, start)}")
    return place


def _inclusive(span: Any, context: str, where: str) -> Place:
    """A pair of MRQA, whose second number is the last character."""
    start, last = (_start(value, where) or 0 for value in span)
    if not 0 <= start <= last < len(context):
        raise BothwaysError(
            f"{where}: the span {start} to {last} lies outside its context of {len(context):,} characters"
        )
    return start, last + 1


def _given(row: Row, where: str) -> _Given:
    """The answers of a row: SQuAD's dict of lists, a list of dicts or texts, or one text."""
    name = next((name for name in ANSWER_NAMES if name in row), None)
    if name is None:
        raise BothwaysError(
            f"{where}: has no answers (keys: {', '.join(map(str, row))}); give answers with text and answer_start, an "
            "empty list where there is none"
        )
    value = row[name]
    if isinstance(value, str):
        start = row.get("answer_start")
        return _Given([value], [_start(start, where)]) if value.strip() else _Given([], [])
    if isinstance(value, Mapping):
        texts, starts = trivia.listed(value.get("text")), trivia.listed(value.get("answer_start"))
        starts = starts or [None] * len(texts)
        if len(texts) != len(starts):
            raise BothwaysError(f"{where}: has {len(texts)} answers but {len(starts)} values of answer_start")
        pairs = list(zip(texts, starts, strict=True))
    else:
        pairs = [
            (one.get("text"), one.get("answer_start")) if isinstance(one, Mapping) else (one, None)
            for one in trivia.listed(value)
        ]
    for text, _ in pairs:
        if not isinstance(text, str) or not text.strip():  # such as where answers are kept secret
            raise BothwaysError(
                f"{where}: an answer should be a text, not {text!r:.40}; where there is none give an empty list"
            )
    return _Given([text for text, _ in pairs], [_start(start, where) for _, start in pairs])


def _start(value: Any, where: str) -> int | None:
    if value is None or value == "" or value != value or (isinstance(value, int) and value < 0):
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise BothwaysError(f"{where}: answer_start should be a number of characters, not {value!r:.40}") from None


def _natural(where: str, row: Row) -> Question:
    """A line of Natural Questions whose document is one text, tokens between single spaces (its simplified form)."""
    context, question = _text(row, ("document_text",), where), _text(row, ("question_text",), where)
    tokens = context.split(" ")
    starts = [0]
    for token in tokens:
        starts.append(starts[-1] + len(token) + 1)
    places = []
    for short in (short for one in row["annotations"] for short in _within(one, "short_answers", where)):
        first = int(_within(short, "start_token", where))
        last = int(_within(short, "end_token", where))  # it stands behind the last token
        if not 0 <= first < last <= len(tokens):
            raise BothwaysError(f"{where}: tokens {first} to {last} lie outside its document of {len(tokens):,} tokens")
        places.append((starts[first], starts[last] - 1))
    texts = tuple(context[start:end] for start, end in places)
    return Question(str(row.get("example_id", where)), question, context, texts, tuple(places), where)


def _from_documents(where: str, row: Row, folder: Path | None) -> Iterator[Question]:
    """A question of TriviaQA once a document, its answers' places found by their names (distant supervision)."""
    question, aliases = trivia.asked(row, where)
    name = str(_first(row, (*ID_NAMES, "QuestionId")) or where)
    for number, context in enumerate(trivia.documents(row, where, folder)):
        places = tuple(find_aliases(context, aliases))
        yield Question(f"{name}--{number}", question, context, tuple(aliases), places, where)


def _text(row: Row, names: Iterable[str], where: str) -> str:
    name = next((name for name in names if row.get(name) is not None), None)
    if name is None:
        keys = ", ".join(map(str, row))
        raise BothwaysError(f"{where}: has no {next(iter(names))} (keys: {keys})")
    value = row[name]
    if not isinstance(value, str) or not value.strip():
        raise BothwaysError(
            f"{where}: the {name} is empty" if isinstance(value, str) else f"{where}: the {name} is no text"
        )
    return value


def _within(value: Any, key: str, where: str) -> Any:
    if not isinstance(value, Mapping) or key not in value:
        raise BothwaysError(f"{where}: {key!r} is missing in {value!r:.60}")
    return value[key]


def _first(row: Row, names: Iterable[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _is_true(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "1")
