"""Results written row by row to a file, in memory that does not grow; the file appears whole or not at all.

The kind of file follows from its name: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``, and for vectors alone ``.npy``.
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
        self._file = target.open("w", encoding="utf-8", newline="\n") if isinstance(target, Path) else target
        self._close = close

    def write(self, columns: Slice) -> None:
        """Appends a slice."""
        for row in _rows(columns):
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Ends the file."""
        if self._close:
            self._file.close()


class Separated:
    """Separated values with a heading; the names of vectors' places are numbered."""

    def __init__(self, path: Path, delimiter: str = ",") -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, delimiter=delimiter, lineterminator="\n")
        self._begun = False

    def write(self, columns: Slice) -> None:
        """Appends a slice; the first one writes the heading."""
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows(row.values() for row in _rows(columns))

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

        table = pyarrow.table({name: _arrow(values) for name, values in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

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


def _rows(columns: Slice) -> Iterator[dict[str, Any]]:
    lists = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
    for cells in zip(*lists, strict=True):
        yield dict(zip(columns, cells, strict=True))


def _arrow(values: Any) -> Any:
    import pyarrow

    if np.ndim(values) == 2:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.ravel(values)), values.shape[1])
    return pyarrow.array(values)


_KINDS: dict[str, Callable[[Path], Writer]] = {
    ".csv": Separated,
    ".tsv": lambda path: Separated(path, "\t"),
    ".jsonl": JsonLines,
    ".parquet": Parquet,
    ".npy": Npy,
}
