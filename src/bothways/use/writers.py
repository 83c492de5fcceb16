"""Results written row by row to a file, in memory that does not grow; the file appears whole or not at all.

The kind of file follows from its name: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``; for vectors alone ``.npy``, for
tagged words ``.conll``, for answers to questions ``.json``.
"""

from __future__ import annotations

import csv
import errno
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.text.files import replacing

Slice = Mapping[str, Sequence[Any] | np.ndarray]
"""Columns of equal length by name; an array of two axes is a column of vectors."""


class Writer(Protocol):
    """Takes slices of rows, one after the other."""

    def write(self, columns: Slice) -> None:
        """Appends a slice; every slice has the same columns."""
        ...

    def close(self) -> None:
        """Ends the file."""
        ...


@contextmanager
def open_writer(out: str | Path, kinds: Sequence[str], *, overwrite: bool = False) -> Iterator[Writer]:
    """Opens a file for rows; it takes its name when the block ends well.

    Args:
        out: The file, or ``-`` for standard output (JSON lines).
        kinds: The endings that make sense here, such as ``(".csv", ".jsonl")``.
        overwrite: Whether a file that is there already is replaced.

    Raises:
        BothwaysError: The name has none of the endings, the file is there already, or it cannot be written.
    """
    if str(out) == "-":
        yield JsonLines(sys.stdout, close=False)
        return
    path = Path(out)
    check_name(path, kinds, overwrite=overwrite)
    try:
        with replacing(path) as draft:
            writer = _KINDS[path.suffix.lower()](draft)
            try:
                yield writer
            finally:
                writer.close()
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise BothwaysError(f"cannot write {path}: {error.strerror or error}; nothing was left there") from error


def check_name(path: Path, kinds: Sequence[str], *, overwrite: bool) -> None:
    """Refuses a file that could not be written, before any work is done for it.

    Raises:
        BothwaysError: The ending is not one of `kinds`, its folder is missing, or the file is there already.
    """
    suffix = path.suffix.lower()
    if suffix not in kinds:
        raise BothwaysError(
            f"{path} should end in {', '.join(kinds[:-1])} or {kinds[-1]}, which says what is written"
            f"{closest(suffix, kinds) if suffix else ''}"
        )
    if not path.parent.is_dir():
        raise BothwaysError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    if path.exists() and not overwrite:
        raise BothwaysError(f"{path} is there already; choose another name or --overwrite")


class JsonLines:
    """One JSON object a row."""

    def __init__(self, target: Path | IO[str], close: bool = True) -> None:
        self._file = _opened(target, "backslashreplace") if isinstance(target, Path) else target
        self._close = close

    def write(self, columns: Slice) -> None:
        """Appends a slice."""
        for row in _rows(columns):
            self._file.write(_json(row) + "\n")

    def close(self) -> None:
        """Ends the file."""
        if self._close:
            self._file.close()


class Separated:
    """Separated values with a heading; lists and the like stand in their cells as JSON."""

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self._file = _opened(path, "replace")
        self._writer = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._begun = False

    def write(self, columns: Slice) -> None:
        """Appends a slice; the first one writes the heading."""
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows(map(_in_cell, row.values()) for row in _rows(columns))

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class Parquet:
    """A Parquet file, a row group a slice; vectors are lists of fixed length."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, columns: Slice) -> None:
        """Appends a slice; the first one decides on the types of columns."""
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({name: _arrow(name, values) for name, values in columns.items()})
        if self._writer is None:
            kinds = [
                field if field.type != pyarrow.null() else field.with_type(pyarrow.string()) for field in table.schema
            ]
            self._writer = parquet.ParquetWriter(self._path, pyarrow.schema(kinds))
        try:
            self._writer.write_table(table.cast(self._writer.schema))
        except (pyarrow.ArrowException, ValueError) as error:
            reason = str(error).split("\n")[0]
            raise BothwaysError(f"a column holds values of several types ({reason}); write .jsonl instead") from None

    def close(self) -> None:
        """Ends the file."""
        if self._writer is not None:
            self._writer.close()


class Npy:
    """NumPy's format for the one column of vectors, ``(rows, D)`` float32; ``np.load`` opens it, also memory-mapped."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._rows, self._width, self._begin = 0, 0, 0

    def write(self, columns: Slice) -> None:
        """Appends the vectors of a slice; other columns have no place here."""
        vectors = next(np.asarray(values, dtype="<f4") for values in columns.values() if np.ndim(values) == 2)
        if not self._begin:
            self._width = vectors.shape[1]
            self._head()
            self._begin = self._file.tell()
        self._rows += len(vectors)
        self._file.write(np.ascontiguousarray(vectors).tobytes())

    def _head(self) -> None:
        """The format leaves room in its heading for the number of rows to grow, so it can be written twice."""
        shape = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._width)}
        np.lib.format.write_array_header_1_0(self._file, shape)

    def close(self) -> None:
        """Writes down how many rows there are, and ends the file."""
        self._file.seek(0)
        self._head()
        assert self._begin in (0, self._file.tell())
        self._file.close()


class Conll:
    """A line a word, its columns between tabs, a blank line after each text; tags come last, as scorers want them."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path, "replace")

    def write(self, columns: Slice) -> None:
        """Appends a slice: the columns hold lists of equal length, an entry a word."""
        for row in _rows(columns):
            for cells in zip(*row.values(), strict=True):
                self._file.write("\t".join(map(str, cells)) + "\n")
            self._file.write("\n")

    def close(self) -> None:
        """Ends the file."""
        self._file.close()


class ById:
    """One JSON object of answers by the ids of their questions, as the script of SQuAD reads it."""

    def __init__(self, path: Path) -> None:
        self._file = _opened(path, "backslashreplace")
        self._next = "{\n"

    def write(self, columns: Slice) -> None:
        """Appends a slice: a column of ids, and one of answers."""
        for name, value in zip(*columns.values(), strict=True):
            self._file.write(f"{self._next}{_json(str(name))}: {_json(value)}")
            self._next = ",\n"

    def close(self) -> None:
        """Ends the file."""
        self._file.write("\n}\n" if self._next.startswith(",") else "{}\n")
        self._file.close()


def _opened(path: Path, errors: str) -> IO[str]:
    """A text file to write to; `errors` says what becomes of half characters, which UTF-8 cannot hold."""
    return path.open("w", encoding="utf-8", newline="", errors=errors)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _in_cell(value: Any) -> Any:
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _rows(columns: Slice) -> Iterator[dict[str, Any]]:
    lists = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
    for cells in zip(*lists, strict=True):
        yield dict(zip(columns, cells, strict=True))


def _arrow(name: str, values: Any) -> Any:
    import pyarrow

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.ravel(values)), values.shape[1])
    try:
        return pyarrow.array(values)
    except UnicodeEncodeError:
        return pyarrow.array([value.encode("utf-8", "replace").decode() for value in values])
    except pyarrow.ArrowException as error:
        reason = str(error).split("\n")[0]
        raise BothwaysError(f"the column {name!r} does not fit into Parquet ({reason}); write .jsonl instead") from None


_KINDS: dict[str, Callable[[Path], Writer]] = {
    ".csv": Separated,
    ".tsv": lambda path: Separated(path, "\t"),
    ".jsonl": JsonLines,
    ".parquet": Parquet,
    ".npy": Npy,
    ".conll": Conll,
    ".json": ById,
}
