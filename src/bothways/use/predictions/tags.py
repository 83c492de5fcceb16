"""Tags of words, and the spans they make up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.text.columns import Columns, find_column, infer_columns, is_missing, read_examples
from bothways.text.rows import Rows, read_rows
from bothways.use.predictions.shared import Asked, Question, Wish, beside
from bothways.use.writers import Slice

if TYPE_CHECKING:
    from bothways.run.model import Model

_TOKENS = ("tokens", "words")


def tag(model: Model, source: Any, wish: Wish) -> Question:
    """The ``words`` with their ``offsets`` in the text, the ``prediction`` and the ``probability`` of each, the spans.

    Words are those of a column of lists, or of a CoNLL file; a text is split as the model was trained.
    """
    rows = read_rows(source)
    lists = wish.text is None and (wish.tokens is not None or any(name in rows.columns for name in _TOKENS))

    def answer(texts: list[Any]) -> Slice:
        found = model.tag(texts)
        columns = ("words", "offsets", "tags", "probabilities")
        words, offsets, tags, shares = ([list(getattr(one, name)) for one in found] for name in columns)
        spans = [[asdict(span) for span in one.spans] for one in found]
        return {"words": words, "offsets": offsets, "prediction": tags, "probability": shares, "spans": spans}

    asked = _lists(rows, find_column(rows, wish.tokens, _TOKENS, "tokens"), wish) if lists else _texts(rows, wish)
    return Question(asked, answer, {".jsonl": dict, ".parquet": dict, ".conll": _lines})


def _texts(rows: Rows, wish: Wish) -> Iterator[Asked]:
    name = infer_columns(rows, wish.text, need_label=False).text
    for example in read_examples(rows, Columns(name)):
        yield Asked((example.text,), beside(rows, example.row, [name], wish.keep))


def _lists(rows: Rows, column: str, wish: Wish) -> Iterator[Asked]:
    for where, row in rows.located():
        words: Any = row.get(column)
        words = words.tolist() if hasattr(words, "tolist") else words
        if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
            kind = "nothing" if is_missing(words) else f"{words!r:.40}"
            raise BothwaysError(f"{where}: the column {column!r} should hold a list of words, not {kind}")
        others = beside(rows, row, [], wish.keep)
        others.pop(column, None)  # they are among the answers
        yield Asked((list(words),), others)


def _lines(columns: Slice) -> Slice:
    """What a line a word can hold: the word, other columns that have an entry for each word, the tag."""
    words = columns["words"]
    known = ("words", "offsets", "prediction", "probability", "spans")
    others = {
        name: values
        for name, values in columns.items()
        if name not in known
        and all(isinstance(one, list) and len(one) == len(own) for one, own in zip(values, words, strict=True))
    }
    return {"words": words, **others, "prediction": columns["prediction"]}
