"""Queries with texts that answer them well or badly: what rerankers learn from, and what they are asked.

Rows have one of three forms:

- a query, a text, and a label or score: as many rows a query as there are texts;
- a query, ``positives`` and ``negatives``: a text each, or lists of them, or ``negative_1``, ``negative_2``, ...;
- a query, a list of texts, and a list of as many labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.columns import check_column, find_column, infer_columns, is_missing
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Row

QUERY_NAMES = ("query", "question", "anchor", "text")
POSITIVE_NAMES = ("positives", "positive", "pos", "positive_passages", "relevant")
NEGATIVE_NAMES = ("negatives", "negative", "neg", "negative_passages", "hard_negatives", "irrelevant")
TEXTS_NAMES = ("texts", "docs", "documents", "passages", "candidates")
_NUMBERED = re.compile(r"(?:hard_)?(?:negative|neg)_\d+$")


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query with texts.

    Attributes:
        query: What is asked.
        texts: At least one.
        relevance: For each text how well it answers, the more the better; empty where nobody says.
        where: Its place in the source, for messages.
        listed: Whether its texts stood in a list, rather than one by itself.
        row: The whole row.
    """

    query: str
    texts: tuple[str, ...]
    relevance: tuple[float, ...]
    where: str
    listed: bool
    row: Row


def read_rankings(
    source: Any,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    *,
    labelled: bool = True,
) -> Iterator[Ranking]:
    """Reads queries with their texts, a row each.

    Args:
        source: Rows of any kind that `read_rows` takes, in one of the three forms.
        text: The column of queries; None takes a usual name.
        text_pair: The column of texts, or of lists of texts; None takes a usual name.
        label: The column of labels, scores, or lists of them; None takes a usual name.
        labelled: Whether rows have to say what is relevant.

    Raises:
        BothwaysError: A column is absent, or a row has no query, no text, or labels that do not fit; says where.
    """
    rows = read_rows(source)
    for name in (text, text_pair, label):
        check_column(rows, name)
    lowered = {name.lower(): name for name in rows.columns}
    positive = next((lowered[name] for name in POSITIVE_NAMES if name in lowered), None)
    if labelled and positive is not None and text_pair is None:
        query = find_column(rows, text, QUERY_NAMES, "text")
        return _from_sides(rows, query, positive)
    listed = text_pair or next((lowered[name] for name in TEXTS_NAMES if name in lowered), None)
    if listed is not None and (text is not None or any(name in lowered for name in QUERY_NAMES)):
        query = find_column(rows, text, QUERY_NAMES, "text")
        told = infer_columns(rows, query, listed, label).label if labelled else None
        return _from_cells(rows, query, listed, told)
    found = infer_columns(rows, text, text_pair, label, need_label=labelled)
    if found.text_pair is None:
        raise BothwaysError(
            f"{rows.name} has one column that looks like a text, and ranking needs queries and texts (columns: "
            f"{', '.join(rows.columns)}): name both with --text and --text-pair (in Python text=..., text_pair=...)"
        )
    return _from_cells(rows, found.text, found.text_pair, found.label if labelled else None)


def _from_sides(rows: Rows, query: str, positive: str) -> Iterator[Ranking]:
    """Rows of a query, texts that answer it, and texts that do not."""
    lowered = {name.lower(): name for name in rows.columns}
    negatives = [lowered[name] for name in NEGATIVE_NAMES if name in lowered][:1]
    negatives += [name for name in rows.columns if _NUMBERED.match(name.lower())]
    for where, row in rows.located():
        good = _texts(row.get(positive), where, positive)
        bad = [text for name in negatives for text in _texts(row.get(name), where, name, none=True)]
        bad = [text for text in bad if text not in good]
        yield Ranking(
            _query(row, query, where), (*good, *bad), (1.0,) * len(good) + (0.0,) * len(bad), where, True, row
        )


def _from_cells(rows: Rows, query: str, text: str, label: str | None) -> Iterator[Ranking]:
    """Rows of a query, one text or a list of them, and a label each where there is one."""
    for where, row in rows.located():
        texts = _texts(row.get(text), where, text)
        relevance: tuple[float, ...] = ()
        if label is not None:
            told = _cells(row.get(label))
            if len(told) != len(texts):
                raise BothwaysError(f"{where}: there are {len(texts)} texts but {len(told)} labels for them")
            relevance = tuple(_number(each, label, where) for each in told)
        yield Ranking(_query(row, query, where), texts, relevance, where, isinstance(_plain(row.get(text)), list), row)


def _query(row: Row, column: str, where: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise BothwaysError(f"{where}: there is no query in the column {column!r}")
    return value


def _texts(value: Any, where: str, column: str, *, none: bool = False) -> tuple[str, ...]:
    """The text of a cell, or its list of texts."""
    found = () if is_missing(value) else _cells(value)
    for each in found:
        if not isinstance(each, str) or not each.strip():
            raise BothwaysError(
                f"{where}: the column {column!r} should hold a text, or a list of texts, not {each!r:.40}"
            )
    if not found and not none:
        raise BothwaysError(f"{where}: there is no text in the column {column!r}")
    return tuple(found)


def _cells(value: Any) -> Sequence[Any]:
    value = _plain(value)
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> Any:
    """A cell, a list where it is any kind of list."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return list(value) if isinstance(value, tuple) else value


def _number(value: Any, column: str, where: str) -> float:
    said = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}.get(str(value).strip().lower())
    try:
        number = float(value) if said is None else said
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        held = "no label" if is_missing(value) or value == "" else f"{value!r:.40}, which is no number"
        raise BothwaysError(f"{where}: the column {column!r} should say how relevant the text is, but holds {held}")
    return number
