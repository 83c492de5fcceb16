"""Rows: anything with named columns, read as a stream of dicts.

Files (CSV, TSV, JSON lines, Parquet, compressed or not), folders of them, standard input, frames of pandas and polars,
data sets, dicts of lists, and iterables of dicts, of tuples or of texts all become `Rows`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.files import find_files, kind_of, passes_once, shown
from bothways.text.tables import Located, Row, once, parquet_columns, read_table

PEEKED = 100  # rows looked at to learn the columns where no header names them
TUPLES = (("text",), ("text", "label"), ("text", "text_pair", "label"))  # what a tuple of that length holds


class Rows:
    """A table that is read as a stream.

    Attributes:
        columns: The names of the columns. Of JSON lines and dicts those of the first hundred.
        name: What the table is called in messages: "reviews.csv", "the data frame".
    """

    def __init__(
        self,
        columns: Sequence[str],
        name: str,
        read: Callable[[Sequence[str] | None], Iterator[Located]],
        once: bool = False,
    ) -> None:
        self.columns, self.name = list(columns), name
        self._read, self._once, self._begun = read, once, False

    def __iter__(self) -> Iterator[Row]:
        return (row for _, row in self.located())

    def located(self, only: Sequence[str] | None = None) -> Iterator[Located]:
        """The rows with their places, for messages.

        Args:
            only: The columns that are wanted, where leaving out the others saves work.

        Yields:
            ``("reviews.csv, line 17", row)``.

        Raises:
            BothwaysError: A row cannot be read, or the rows came from an iterator and are read a second time.
        """
        if self._once and self._begun:
            raise BothwaysError(f"{self.name} can be read only once; give a list or a file")
        self._begun = True
        return self._read(only)


def read_rows(source: Any) -> Rows:
    """Reads a table from wherever it is.

    Args:
        source: A file, a folder, "-" for standard input, a list of files, a frame of pandas or polars, a
            ``datasets.Dataset``, a pyarrow table, a dict of lists, or an iterable of dicts, of tuples ``(text, label)``
            or ``(text, text_pair, label)``, or of texts.

    Raises:
        BothwaysError: It is none of these, is missing, or holds no rows.
    """
    if isinstance(source, Rows):
        return source
    if isinstance(source, str | Path):
        return _from_files([path for path in find_files(source) if _is_table(path, source)], shown(source))
    if isinstance(source, Mapping):
        return _from_columns(source)
    if isinstance(source, list | tuple) and are_files(source):
        return _from_files([path for given in source for path in find_files(given)], shown(source[0]))
    if _is_lazy(source):
        source = source.collect()
    if _is_frame(source):
        return _from_frame(source)
    if _is_dataset(source):
        return _from_dataset(source)
    if isinstance(source, Iterable):
        return _from_items(source)
    raise BothwaysError(f"rows cannot be read from {type(source).__name__}; give a file, a frame, a dict or a list")


def is_table(source: Any) -> bool:
    """Whether something has named columns in itself: a dict, a frame, a data set."""
    return isinstance(source, Rows | Mapping) or _is_lazy(source) or _is_frame(source) or _is_dataset(source)


def _is_lazy(source: Any) -> bool:
    return hasattr(source, "collect") and hasattr(source, "collect_schema")  # of polars


def _is_frame(source: Any) -> bool:
    return hasattr(source, "columns") and (hasattr(source, "iter_rows") or hasattr(source, "itertuples"))


def _is_dataset(source: Any) -> bool:
    return bool(getattr(source, "column_names", None))  # a stream without known columns is an iterable of dicts


def are_files(source: Sequence[Any]) -> bool:
    """Whether a list names files rather than holding texts: each entry exists or ends like a file that is read."""
    return len(source) > 0 and all(isinstance(entry, Path) or _names_a_file(entry) for entry in source)


def _names_a_file(entry: Any) -> bool:
    if not isinstance(entry, str) or len(entry) > 1000 or any(mark in entry for mark in "\n\0"):
        return False
    return (kind_of(entry) is not None and " " not in entry) or (os.sep in entry and os.path.exists(entry))  # noqa: PTH110


def _is_table(path: str | Path, source: str | Path) -> bool:
    return path == source or Path(path) == Path(source) or kind_of(path) != "text"


def _from_files(paths: Sequence[str | Path], name: str) -> Rows:
    if not paths:
        raise BothwaysError(f"the folder {name} holds no table (.csv, .tsv, .jsonl, .parquet)")
    if len(paths) == 1 and passes_once(paths[0]):
        return stream_rows(read_table(paths[0]), name)
    for path in paths:
        if passes_once(path):
            raise BothwaysError(f"{shown(path)} can be read only once, so it is read alone, not in a list of files")
    columns = _columns_of_file(paths[0])
    for path in paths[1:]:
        other = _columns_of_file(path)
        if set(other) != set(columns):
            raise BothwaysError(f"{path} has the columns {', '.join(other)} where {paths[0]} has {', '.join(columns)}")
    return Rows(columns, name, lambda only: chain.from_iterable(read_table(path, only) for path in paths))


def stream_rows(rows: Iterator[Located], name: str) -> Rows:
    """Rows that pass by once, such as standard input."""
    first = list(islice(rows, PEEKED))
    return Rows(_columns_of(first, name), name, lambda only: chain(first, rows), once=True)


def _columns_of_file(path: str | Path) -> list[str]:
    if kind_of(path) == "parquet":
        return parquet_columns(path)
    return _columns_of(list(islice(read_table(path), PEEKED)), shown(path))


def _columns_of(first: Sequence[Located], name: str) -> list[str]:
    if not first:
        raise BothwaysError(f"{name} holds no rows")
    return list(dict.fromkeys(key for _, row in first for key in row))


def _from_columns(source: Mapping[Any, Any]) -> Rows:
    name = "the dict"
    splits = [str(key) for key, value in source.items() if hasattr(value, "column_names")]
    if splits:
        raise BothwaysError(f"a data set with splits was given; choose one of them: {', '.join(splits)}")
    lists = {str(key): value for key, value in source.items()}
    for key, value in lists.items():
        if isinstance(value, str) or not hasattr(value, "__len__"):
            raise BothwaysError(f"{name} should hold a list a column, but {key!r} is {type(value).__name__}")
    counts = {key: len(value) for key, value in lists.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{key} {count:,}" for key, count in counts.items())
        raise BothwaysError(f"the columns of {name} differ in length ({told})")
    if not counts or not next(iter(counts.values())):
        raise BothwaysError(f"{name} holds no rows")
    columns = list(lists)
    return Rows(columns, name, lambda only: _zipped(columns, [lists[key] for key in columns], name))


def _zipped(columns: Sequence[str], values: Sequence[Iterable[Any]], name: str) -> Iterator[Located]:
    for number, row in enumerate(zip(*values, strict=True), start=1):
        yield f"{name}, row {number}", dict(zip(columns, row, strict=True))


def _from_frame(frame: Any) -> Rows:
    name = "the data frame"
    columns = once([str(column) for column in frame.columns], name)
    if not len(frame):
        raise BothwaysError(f"{name} holds no rows")
    keys = list(frame.columns)
    return Rows(columns, name, lambda only: _zipped(columns, [frame[key] for key in keys], name))


def _from_dataset(source: Any) -> Rows:
    """A ``datasets.Dataset`` (labels become their names) or a pyarrow table."""
    name = "the data set"
    columns = once(source.column_names, name)
    features = getattr(source, "features", None) or {}
    names = {column: getattr(features.get(column), "names", None) for column in columns} if features else {}
    named = {column: values for column, values in names.items() if values}

    def read(only: Sequence[str] | None) -> Iterator[Located]:
        rows: Iterable[Row] = source
        if hasattr(source, "to_batches"):
            rows = (row for batch in source.to_batches(max_chunksize=1024) for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            for column, values in named.items():
                label = row.get(column)
                if isinstance(label, int) and 0 <= label < len(values):
                    row = {**row, column: values[label]}
            yield f"{name}, row {number}", row

    return Rows(columns, name, read)


def _from_items(source: Iterable[Any]) -> Rows:
    name = "the list" if isinstance(source, list | tuple) else "the iterable"
    items = iter(source)
    once = items is source
    first = list(islice(items, PEEKED))
    if not first:
        raise BothwaysError(f"{name} holds no rows")

    def read(only: Sequence[str] | None) -> Iterator[Located]:
        everything = chain(first, items) if once else source
        for number, item in enumerate(everything, start=1):
            yield f"{name}, row {number}", _as_row(item, f"{name}, row {number}")

    columns = _columns_of([("", _as_row(item, f"{name}, row {place}")) for place, item in enumerate(first, 1)], name)
    return Rows(columns, name, read, once)


def _as_row(item: Any, where: str) -> Row:
    if isinstance(item, Mapping):
        return {str(key): value for key, value in item.items()}
    if isinstance(item, str):
        return {"text": item}
    if isinstance(item, list | tuple) and 1 <= len(item) <= len(TUPLES):
        return dict(zip(TUPLES[len(item) - 1], item, strict=True))
    raise BothwaysError(
        f"{where}: should be a dict, a text, (text, label) or (text, text_pair, label), not {item!r:.60}"
    )
