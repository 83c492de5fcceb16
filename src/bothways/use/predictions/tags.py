"""Tags of words, and the spans they make up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import find_column, is_missing
from bothways.text.conll import read_conll
from bothways.text.files import is_stdin, kind_of, open_text, shown
from bothways.text.rows import PEEKED, Rows, read_rows
from bothways.text.tables import Row
from bothways.text.tagged_rows import WORD_COLUMNS
from bothways.use.formats import Slice
from bothways.use.predictions.shared import Asked, Question, Wish, beside

if TYPE_CHECKING:
    from bothways.run.questions import Questions

_ANSWERS = ("words", "offsets", "prediction", "probability", "spans")


def tag(model: Questions, source: Any, wish: Wish) -> Question:
    """The ``words`` with their ``offsets`` in the text, the ``prediction`` and the ``probability`` of each, the spans.

    Words are those of a column of lists, or of a file of columns; a text is parted into words as in training.
    """

    def answer(texts: list[Any]) -> Slice:
        found = model.tag(texts)
        parts = ("words", "offsets", "tags", "probabilities")
        columns = [[list(getattr(one, name)) for one in found] for name in parts]
        return dict(zip(_ANSWERS, [*columns, [[asdict(span) for span in one.spans] for one in found]], strict=True))

    columns = _is_columns(source)
    by_word: list[str] = []
    asked = _from_columns(source, wish, by_word) if columns else _from_rows(source, wish, by_word)
    kinds: dict[str, Callable[[Slice], Slice]] = {
        ".jsonl": dict,
        ".parquet": dict,
        ".conll": lambda found: _lines(found, by_word),
    }
    return Question(asked, answer, kinds, None if columns else source)


def _is_columns(source: Any) -> bool:
    """Whether a source is a file with a word a line: its name says of no table."""
    return isinstance(source, str | Path) and not is_stdin(source) and kind_of(source) in (None, "text")


def _from_columns(source: str | Path, wish: Wish, by_word: list[str]) -> Iterator[Asked]:
    """The sentences of a file of columns; `by_word` gets the names of what is kept beside the words."""
    with open_text(source) as lines:
        sentences = read_conll(lines, shown(source), tagged=False)
        first = next(sentences, None)
        if first is None:
            return
        by_word += ["tags"] if wish.keep and any(first.tags) else []
        for sentence in chain([first], sentences):
            yield Asked((sentence.words,), {"tags": sentence.tags} if by_word else {}, sentence.where)


def _from_rows(source: Any, wish: Wish, by_word: list[str]) -> Iterator[Asked]:
    """Texts or lists of words; `by_word` gets the names of kept columns with an entry for each word."""
    rows = read_rows(source)
    column = find_column(rows, wish.text, WORD_COLUMNS, "text")
    asked = (_row(rows, column, wish.keep, where, row) for where, row in rows.located())
    first = list(islice(asked, PEEKED))
    by_word += [name for name in (rows.columns if wish.keep else ()) if name != column and _is_by_word(name, first)]
    split = not isinstance(first[0].inputs[0], str)
    for one in chain(first, asked):
        if isinstance(one.inputs[0], str) == split:
            kinds = ("a text", "a list of words") if split else ("a list of words", "a text")
            raise BothwaysError(
                f"{one.where}: the column {column!r} holds {kinds[0]} where the first row has {kinds[1]}; give all "
                "rows one kind"
            )
        yield one


def _row(rows: Rows, column: str, keep: bool, where: str, row: Row) -> Asked:
    words: Any = row.get(column)
    words = words.tolist() if hasattr(words, "tolist") else words
    given = beside(rows, row, [column], keep, where)
    if not isinstance(words, str):
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            held = "nothing" if is_missing(words) else f"{words!r:.40}"
            raise BothwaysError(f"{where}: the column {column!r} should hold a text or a list of words, not {held}")
        del given[column]  # they stand among the answers
    return Asked((words,), given, where)


def _is_by_word(name: str, rows: Sequence[Asked]) -> bool:
    """Whether a column of some rows has an entry for each word, as far as the words are known, or nothing."""
    given = [(row.inputs[0], row.beside[name]) for row in rows if row.beside.get(name) is not None]
    lists = [(words, own) for words, own in given if isinstance(own, list)]
    return 0 < len(lists) == len(given) and all(
        isinstance(words, str) or len(own) == len(words) for words, own in lists
    )


def _lines(columns: Slice, by_word: Sequence[str]) -> Slice:
    """What a line a word can hold: the word, what some columns have for each word, the tag.

    A row that has another number of entries gets underscores there, as in treebanks.
    """
    words = columns["words"]
    others = {
        name: [
            own if isinstance(own, list) and len(own) == len(row) else ["_"] * len(row)
            for own, row in zip(columns[name], words, strict=True)
        ]
        for name in by_word
    }
    return {"words": words, **others, "prediction": columns["prediction"]}
