"""Tables in files, row by row: CSV, TSV, JSON lines and Parquet, of any compression.

Each reader is a generator of ``(where, row)``: `where` ("reviews.csv, line 17") goes into messages, `row` is a dict.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.files import PARQUET, PathLike, is_stdin, kind_of, open_bytes, open_text, shown

Row = dict[str, Any]
Located = tuple[str, Row]  # where a row stands, and the row
Lines = Iterator[tuple[int, str]]

LONGEST_FIELD = 1 << 24  # characters, and
LONGEST_QUOTE = 1000  # lines; a quote that never closes would otherwise swallow the file
PARQUET_ROWS = 1024
_JSON = re.compile(r"\s*(\{|\[\s*(\{|$))")  # an array too, so that it is told what is not read
_HALVES = re.compile("[\ud800-\udfff]")
_NO_ARRAY = "a JSON array is not read, write one object a line"


def read_table(path: PathLike, only: Sequence[str] | None = None) -> Iterator[Located]:
    """The rows of one file.

    Args:
        path: A file; "-" is standard input (CSV, TSV, JSON lines or plain texts, told apart by the first line).
        only: The columns that are wanted, where leaving out the others saves work; None means all.

    Raises:
        BothwaysError: The file is wrong in any way; the sentence says where.
    """
    if kind_of(path) == "parquet":
        yield from _parquet(path, only)
        return
    with open_text(path) as lines:
        yield from parse_table(lines, shown(path), kind_of(path))


def parse_table(lines: Lines, name: str, kind: str | None) -> Iterator[Located]:
    """The rows in numbered lines.

    Args:
        lines: From `open_text`.
        name: What the file is called in messages.
        kind: "csv", "tsv" or "jsonl"; anything else is told from the first line. One of several words and no separator
            is no header: such lines are texts, in a column "text".
    """
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        raise BothwaysError(f"{name} holds only blank lines")
    if kind not in ("csv", "tsv", "jsonl"):
        kind = _told(first[1].strip())
    read = {"jsonl": _jsonl, "tsv": _tsv, "csv": _csv, "text": _texts}[kind]
    yield from read(chain([first], lines), name)


def _told(line: str) -> str:
    """What begins with a line, where no name says it."""
    if _JSON.match(line):
        return "jsonl"
    if "\t" in line:
        return "tsv"
    return "text" if " " in line and not any(mark in line for mark in ',;|"') else "csv"


def _texts(lines: Lines, name: str) -> Iterator[Located]:
    return ((f"{name}, line {number}", {"text": line}) for number, line in lines if line.strip())


def _jsonl(lines: Lines, name: str) -> Iterator[Located]:
    for number, line in lines:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            hint = f"; {_NO_ARRAY}" if line.strip().startswith("[") else ""
            raise BothwaysError(f"{where}: not JSON ({_reason(error)}){hint}") from None
        except RecursionError:
            raise BothwaysError(f"{where}: the JSON is nested too deeply") from None
        if not isinstance(row, dict):
            kind = _NO_ARRAY if isinstance(row, list) else f"not {type(row).__name__}"
            raise BothwaysError(f"{where}: should be a JSON object with a value a column; {kind}")
        yield where, row


def parse_json(text: str) -> Any:
    """What a JSON text holds. Halves of surrogate pairs, which no file can, become U+FFFD; raises as `json.loads`."""
    found = json.loads(text)
    return without_halves(found) if "\\ud" in text or "\\uD" in text else found


def without_halves(value: Any) -> Any:
    """Plain data with U+FFFD in the place of half a surrogate pair, which has no UTF-8, in every text of it."""
    if isinstance(value, str):
        return _HALVES.sub("\ufffd", value)
    if isinstance(value, list | tuple):
        return [without_halves(each) for each in value]
    if isinstance(value, dict):
        return {without_halves(key): without_halves(each) for key, each in value.items()}
    return value


def _reason(error: ValueError) -> str:
    return f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


def _csv(lines: Lines, name: str) -> Iterator[Located]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
    reached = 0

    def endings() -> Iterator[str]:
        nonlocal reached
        for number, line in lines:
            reached = number
            yield line + "\n"

    source = endings()
    header = next(source)
    delimiter = "," if "," in header else next((mark for mark in ";\t|" if mark in header), ",")
    records = csv.reader(chain([header], source), delimiter=delimiter, strict=True)
    columns: list[str] = []
    began = reached
    while True:
        try:
            values = next(records, None)
        except csv.Error as error:
            raise BothwaysError(f"{name}, line {began}: not a CSV row ({error}); check its quotes") from None
        if values is None:
            return
        where = f"{name}, line {began}"
        if values and not columns:
            columns = _header(values, where)
        elif values:
            yield where, _row(columns, values, where)
        began = reached + 1


def _tsv(lines: Lines, name: str) -> Iterator[Located]:
    """Tab-separated rows, with quotes or without.

    Some files quote fields and let them run over lines, others (GLUE's) hold bare quotes. So where a line has all its
    fields, an open quote goes on below only until a line that has all fields too; then it was just a character.
    """
    ahead = _Ahead(lines)
    number, line = next(ahead)
    columns = _header([_unquoted(field) for field in line.split("\t")], f"{name}, line {number}")
    for number, line in ahead:
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        quoted = _quoted(line, len(columns), ahead) if '"' in line else None
        yield where, _row(columns, quoted or [_unquoted(field) for field in line.split("\t")], where)


class _Ahead:
    """Lines that can be looked at and put back."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines
        self.returned: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[tuple[int, str]]:
        return self

    def __next__(self) -> tuple[int, str]:
        return self.returned.pop() if self.returned else next(self.lines)

    def put_back(self, lines: list[tuple[int, str]]) -> None:
        self.returned += reversed(lines)


def _quoted(line: str, count: int, ahead: _Ahead) -> list[str] | None:
    """The fields of a row with quotes, which may take further lines; None when its quotes do not pair up."""
    taken: list[tuple[int, str]] = []
    text, whole = line, line.count("\t") + 1 == count
    while True:
        try:
            fields = next(csv.reader((part + "\n" for part in text.split("\n")), delimiter="\t", strict=True))
            if len(fields) == count:
                return fields
        except csv.Error:
            pass
        more = next(ahead, None)
        if more is not None:
            taken.append(more)
        if more is None or len(taken) == LONGEST_QUOTE or (whole and more[1].count("\t") + 1 == count):
            ahead.put_back(taken)
            return None
        text += "\n" + more[1]


def _unquoted(field: str) -> str:
    inner = field[1:-1]
    whole = len(field) >= 2 and field[0] == field[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if whole else field


def _header(names: Sequence[str], where: str) -> list[str]:
    columns = [name.strip() for name in names]
    twice = [name for place, name in enumerate(columns) if name in columns[:place]]
    if twice:
        raise BothwaysError(f"{where}: two columns are called {twice[0]!r}; is this line the header?")
    return columns


def _row(columns: Sequence[str], values: Sequence[str], where: str) -> Row:
    if len(values) != len(columns):
        raise BothwaysError(
            f"{where}: has {len(values)} fields where the header names {len(columns)} columns ({', '.join(columns)}); "
            f"quote fields that hold the separator"
        )
    return dict(zip(columns, values, strict=True))


def _parquet(path: PathLike, only: Sequence[str] | None) -> Iterator[Located]:
    number = 0
    with _open_parquet(path) as file:
        for batch in file.iter_batches(batch_size=PARQUET_ROWS, columns=None if only is None else list(only)):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row


def parquet_columns(path: PathLike) -> list[str]:
    """The names of the columns of a parquet file, read from its footer."""
    with _open_parquet(path) as file:
        return once(file.schema_arrow.names, shown(path))


def once(columns: Sequence[str], name: str) -> list[str]:
    """The columns of a table that has each name once.

    Raises:
        BothwaysError: Two columns have one name, so that a row would hold only one of them.
    """
    twice = [column for place, column in enumerate(columns) if column in columns[:place]]
    if twice:
        raise BothwaysError(f"{name}: two columns are called {twice[0]!r}; rename one of them")
    return list(columns)


@contextmanager
def _open_parquet(path: PathLike) -> Iterator[Any]:
    """A `pyarrow.parquet.ParquetFile`; what pyarrow says against it becomes a BothwaysError."""
    import pyarrow as arrow
    from pyarrow import parquet

    with _seekable(path) as source:
        try:
            yield parquet.ParquetFile(source)
        except (arrow.ArrowException, OSError) as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise BothwaysError(f"{shown(path)} is not a parquet file that can be read ({reason})") from None


@contextmanager
def _seekable(path: PathLike) -> Iterator[Any]:
    """A parquet file as pyarrow wants it: itself, or uncompressed into a temporary file on disk."""
    if is_stdin(path):
        raise BothwaysError("parquet cannot be read from standard input; give the file by name")
    with open_bytes(path, binary=True) as stream:
        if stream.peek(4)[:4] != PARQUET:
            raise BothwaysError(f"{shown(path)} is not a parquet file")
        with Path(path).open("rb") as plain:
            if plain.read(4) == PARQUET:
                yield plain
                return
        with tempfile.TemporaryFile() as unpacked:
            shutil.copyfileobj(stream, unpacked, 1 << 20)
            unpacked.seek(0)
            yield unpacked
