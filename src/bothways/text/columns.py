"""Which column is the text, which the second text, which the label: as named by the user, else by usual names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.text.rows import Rows
from bothways.text.tables import Row

TEXT_NAMES = (
    *(
        "text",
        "sentence",
        "review",
        "content",
        "body",
        "document",
        "article",
        "abstract",
        "comment",
        "tweet",
        "message",
    ),
    *("utterance", "query", "question", "passage", "paragraph", "post", "snippet", "input", "sentence1", "text_a"),
)
PAIR_NAMES = (
    *(("text", "text_pair"), ("text_a", "text_b"), ("text1", "text2"), ("sentence1", "sentence2")),
    *(
        ("sentence_1", "sentence_2"),
        ("sentence_a", "sentence_b"),
        ("premise", "hypothesis"),
        ("question1", "question2"),
    ),
    *(("question", "sentence"), ("question", "passage"), ("question", "context"), ("query", "passage")),
    *(("query", "document"), ("query", "text"), ("s1", "s2"), ("anchor", "positive")),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "target", "score", "rating", "stars", "sentiment", "polarity", "topic"),
    *("intent", "emotion", "gold_label", "label_text", "y"),
)
NUMBERING = ("", "id", "idx", "index", "unnamed: 0", "row", "guid", "uid", "uuid")  # columns that are neither


@dataclass(frozen=True)
class Columns:
    """The columns that matter, by name.

    Attributes:
        text: The text, or the first text of a pair.
        text_pair: The second text, or None.
        label: The label, or None.
    """

    text: str
    text_pair: str | None = None
    label: str | None = None


@dataclass(frozen=True)
class Example:
    """One checked row.

    Attributes:
        text: The text, or the first text of a pair.
        text_pair: The second text, or None.
        label: The label as it stands in the table, white space around it removed; None when no label is read.
        where: Its place, for messages.
        row: The whole row.
    """

    text: str
    text_pair: str | None
    label: Any
    where: str
    row: Row


def infer_columns(
    rows: Rows,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    need_label: bool = True,
) -> Columns:
    """Finds the columns of text, second text and label.

    Args:
        rows: The table.
        text: The text column, if known. When it is given, there is a second text only if `text_pair` is given too.
        text_pair: The column of second texts, if known.
        label: The label column, if known.
        need_label: Whether rows without a label column are an error.

    Returns:
        The names. What is not given is told from usual names, or is what remains when all others are known.

    Raises:
        BothwaysError: A given column is absent (the sentence lists those present), or it cannot be told which is meant.
    """
    for given in (text, text_pair, label):
        check_column(rows, given)
    left = [name for name in rows.columns if name not in (text, text_pair, label)]
    if label is None:
        label = _usual(left, LABEL_NAMES)
        left = [name for name in left if name != label]
    if text is None:
        text, text_pair = _find_texts(rows, left, text_pair)
        left = [name for name in left if name not in (text, text_pair)]
    if label is None and need_label:
        others = [name for name in left if name.lower() not in NUMBERING]
        if len(others) != 1:
            raise _unclear(rows, "label", "label")
        label = others[0]
    return Columns(text, text_pair, label)


def check_column(rows: Rows, name: str | None) -> None:
    """Raises a BothwaysError that lists the columns present when `name` (unless None) is not among them."""
    if name is not None and name not in rows.columns:
        near = closest(name, rows.columns)
        raise BothwaysError(f"{rows.name} has no column {name!r} (columns: {', '.join(rows.columns)}){near}")


def find_column(rows: Rows, given: str | None, usual: Sequence[str], option: str) -> str:
    """A column by its given name, else the first of some usual names that is there, whatever its case.

    Args:
        rows: The table.
        given: The name, if known.
        usual: Names that such columns have, best first.
        option: The setting that names it, for the message, such as ``"context"``.

    Raises:
        BothwaysError: It is absent; the sentence lists those present.
    """
    check_column(rows, given)
    lowered = {name.lower(): name for name in rows.columns}
    found = given or next((lowered[name] for name in usual if name in lowered), None)
    if found is None:
        raise _unclear(rows, option, option.replace("_", "-"))
    return found


def find_text(rows: Rows) -> str:
    """The column that holds the text, found by usual names, or because it is the only one.

    Raises:
        BothwaysError: It cannot be told which it is.
    """
    found = _usual(rows.columns, TEXT_NAMES)
    others = [name for name in rows.columns if name.lower() not in NUMBERING]
    if found is None and len(others) != 1:
        raise _unclear(rows, "text", "text")
    return found or others[0]


def _find_texts(rows: Rows, left: Sequence[str], text_pair: str | None) -> tuple[str, str | None]:
    lowered = {name.lower(): name for name in left}
    if text_pair is None:
        pairs = [pair for pair in PAIR_NAMES if pair[0] in lowered and pair[1] in lowered]
        if pairs:
            return lowered[pairs[0][0]], lowered[pairs[0][1]]
    found = _usual(left, TEXT_NAMES)
    others = [name for name in left if name.lower() not in NUMBERING]
    if found is None and len(others) != 1:
        raise _unclear(rows, "text", "text")
    return found or others[0], text_pair


def _usual(names: Sequence[str], known: Sequence[str]) -> str | None:
    """The one name that is usual: the first two of `known` come before the others, which must stand alone."""
    lowered = {name.lower(): name for name in names}
    for best in known[:2]:
        if best in lowered:
            return lowered[best]
    found = [lowered[name] for name in known[2:] if name in lowered]
    return found[0] if len(found) == 1 else None


def _unclear(rows: Rows, what: str, option: str) -> BothwaysError:
    listed = ", ".join(rows.columns)
    return BothwaysError(
        f"it is not clear which column of {rows.name} is the {what} (columns: {listed}); "
        f"name it with --{option} (in Python {option.replace('-', '_')}=...)"
    )


def read_examples(rows: Rows, columns: Columns) -> Iterator[Example]:
    """The rows as examples, each checked.

    Args:
        rows: The table.
        columns: Its columns, from `infer_columns`.

    Raises:
        BothwaysError: A row has no text, a text that is not a string, or no label; the sentence says where.
    """
    for where, row in rows.located():
        first = _text(row, columns.text, where)
        second = None if columns.text_pair is None else _text(row, columns.text_pair, where)
        yield Example(first, second, None if columns.label is None else _label(row, columns.label, where), where, row)


def _text(row: Row, column: str, where: str) -> str:
    value = row.get(column)
    if isinstance(value, str):
        return value
    if is_missing(value):
        raise BothwaysError(f"{where}: there is no text in the column {column!r}")
    raise BothwaysError(f"{where}: the column {column!r} should hold text, not {type(value).__name__} {value!r:.40}")


def _label(row: Row, column: str, where: str) -> Any:
    value: Any = row.get(column)
    if isinstance(value, str):
        value = value.strip()
    elif hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if is_missing(value) or value == "":
        raise BothwaysError(f"{where}: there is no label in the column {column!r}")
    return value


def is_missing(value: Any) -> bool:
    """Whether a cell is empty: None, NaN, or what pandas writes for them."""
    return (
        value is None or (isinstance(value, float) and value != value) or type(value).__name__ in ("NAType", "NaTType")
    )
