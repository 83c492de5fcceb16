"""Tags of words, and the spans they make up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import find_column, is_missing
from bothways.text.conll import read_conll
from bothways.text.files import is_stdin, kind_of, open_text, shown
from bothways.text.rows import read_rows
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
    asked = _from_columns(source, wish) if columns else _from_rows(source, wish)
    kinds: dict[str, Callable[[Slice], Slice]] = {".jsonl": dict, ".parquet": dict, ".conll": _lines}
    return Question(asked, answer, kinds, None if columns else source)


def _is_columns(source: Any) -> bool:
    """Whether a source is a file with a word a line: its name says of no table."""
    return isinstance(source, str | Path) and not is_stdin(source) and kind_of(source) in (None, "text")


def _from_columns(source: str | Path, wish: Wish) -> Iterator[Asked]:
    with open_text(source) as lines:
        for sentence in read_conll(lines, shown(source), tagged=False):
            kept = {"tags": sentence.tags} if wish.keep and any(sentence.tags) else {}
            yield Asked((sentence.words,), kept, sentence.where)


def _from_rows(source: Any, wish: Wish) -> Iterator[Asked]:
    rows = read_rows(source)
    column = find_column(rows, wish.text, WORD_COLUMNS, "text")
    for where, row in rows.located():
        words: Any = row.get(column)
        words = words.tolist() if hasattr(words, "tolist") else words
        given = beside(rows, row, [column], wish.keep, where)
        if not isinstance(words, str):
            if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
                held = "nothing" if is_missing(words) else f"{words!r:.40}"
                raise BothwaysError(f"{where}: the column {column!r} should hold a text or a list of words, not {held}")
            del given[column]  # they stand among the answers
        yield Asked((words,), given, where)


def _lines(columns: Slice) -> Slice:
    """What a line a word can hold: the word, other columns that have an entry for each word, the tag."""
    words = columns["words"]
    others = {
        name: values
        for name, values in columns.items()
        if name not in _ANSWERS
        and all(isinstance(one, list) and len(one) == len(own) for one, own in zip(values, words, strict=True))
    }
    return {"words": words, **others, "prediction": columns["prediction"]}
