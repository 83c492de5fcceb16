"""The kinds of files that answers go to, as pieces of bytes that are appended to a draft, and how a draft is ended.

The kind follows from a file's name: ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``; for vectors alone ``.npy``, for
tagged words ``.conll``, for answers to questions ``.json``. A draft may be cut where a piece ends, and go on from
there.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bothways.text.tables import without_halves
from bothways.use.parquet import Parquet

Slice = Mapping[str, Sequence[Any] | np.ndarray]
"""Columns of equal length by name; an array of two axes is a column of vectors."""


class Format(Protocol):
    """Makes one file."""

    def go_on(self, draft: Path) -> None:
        """Learns from a draft that others began what later pieces depend on."""
        ...

    def piece(self, columns: Slice) -> bytes:
        """What a slice of rows adds to the draft; every slice has the same columns."""
        ...

    def finish(self, draft: Path, rows: int) -> Path:
        """Makes the file of a draft with all its rows; returns where it is, which may be another file beside it."""
        ...


class JsonLines:
    """One JSON object a row."""

    def go_on(self, draft: Path) -> None:
        """Nothing depends on what was before."""

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says."""
        return "".join(_json(row) + "\n" for row in _rows(columns)).encode("utf-8", "backslashreplace")

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says."""
        return draft


class Separated:
    """Separated values with a heading; lists and the like stand in their cells as JSON.

    A row ends with a line feed. It is written with a carriage return before it, which is then left out, because the
    module `csv` quotes only cells with characters of its line end, and other readers end rows at a bare return too.
    """

    def __init__(self, delimiter: str = ",") -> None:
        self._delimiter, self._begun = delimiter, False

    def go_on(self, draft: Path) -> None:
        """The heading is there already."""
        self._begun = True

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says; the first one has the heading."""
        lines: list[str] = []
        writer = csv.writer(_Writes(lines.append), delimiter=self._delimiter, lineterminator="\r\n")
        if not self._begun:
            writer.writerow(columns)
            self._begun = True
        writer.writerows(map(_in_cell, row.values()) for row in _rows(columns))
        return _encoded("".join(line[:-2] + "\n" for line in lines))

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says."""
        return draft


class _Writes(NamedTuple):
    """What `csv` takes for a file."""

    write: Callable[[str], object]


class Npy:
    """NumPy's format for the one column of vectors, ``(rows, D)`` float32; ``np.load`` opens it, also memory-mapped."""

    def __init__(self) -> None:
        self._begun = False

    def go_on(self, draft: Path) -> None:
        """The heading is there already."""
        self._begun = True

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says; other columns than the vectors have no place here."""
        vectors = next(one for one in columns.values() if isinstance(one, np.ndarray) and one.ndim == 2)
        head = b"" if self._begun else _npy_head(0, vectors.shape[1])
        self._begun = True
        return head + np.ascontiguousarray(vectors, dtype="<f4").tobytes()

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says: writes down how many rows there are."""
        with draft.open("r+b") as file:
            np.lib.format.read_magic(file)
            (_, width), _, _ = np.lib.format.read_array_header_1_0(file)
            begin = file.tell()
            file.seek(0)
            file.write(_npy_head(rows, width))
            assert file.tell() == begin
        return draft


def _npy_head(rows: int, width: int) -> bytes:
    """The format leaves room in its heading for the number of rows to grow, so it can be written twice."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})
    return head.getvalue()


class Conll:
    """A line a word, its columns between tabs, a blank line after each text; tags come last, as scorers want them.

    A tab or line end within a word becomes a space: the form knows no quotes.
    """

    def go_on(self, draft: Path) -> None:
        """Nothing depends on what was before."""

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says: the columns hold lists of equal length, an entry a word."""
        blocks = (
            "".join("\t".join(map(_in_line, cells)) + "\n" for cells in zip(*row.values(), strict=True))
            for row in _rows(columns)
        )
        return _encoded("".join(block + "\n" for block in blocks))

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says."""
        return draft


class ById:
    """One JSON object of answers by the ids of their questions, as the script of SQuAD reads it."""

    def __init__(self) -> None:
        self._next = "{\n"

    def go_on(self, draft: Path) -> None:
        """There are answers before."""
        self._next = ",\n"

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says: a column of ids, and one of answers."""
        parts = []
        for name, value in zip(*columns.values(), strict=True):
            parts.append(f"{self._next}{_json(str(name))}: {_json(value)}")
            self._next = ",\n"
        return "".join(parts).encode("utf-8", "backslashreplace")

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says."""
        with draft.open("ab") as file:
            file.write(b"\n}\n" if rows else b"{}\n")
        return draft


class Compressed:
    """A format whose pieces are compressed each by itself; one after the other they are one file to all readers."""

    def __init__(self, inner: Format, compress: Callable[[bytes], bytes]) -> None:
        self._inner, self._compress = inner, compress

    def go_on(self, draft: Path) -> None:
        """As `Format.go_on` says, for formats that do not look into their draft."""
        self._inner.go_on(draft)

    def piece(self, columns: Slice) -> bytes:
        """As `Format.piece` says."""
        return self._compress(self._inner.piece(columns))

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says, for formats that need no end."""
        return draft


def make_format(kind: str, compression: str = "") -> Format:
    """What makes a file of a kind.

    Args:
        kind: Its ending, such as ``".csv"``.
        compression: ``".gz"``, ``".zst"``, or nothing.
    """
    made = _KINDS[kind]()
    if compression == ".gz":
        return Compressed(made, lambda raw: gzip.compress(raw, mtime=0))
    if compression == ".zst":
        import zstandard

        return Compressed(made, zstandard.ZstdCompressor().compress)
    return made


def _json(value: Any) -> str:
    """As JSON, which knows no number that is not finite: null stands for it."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_cell(value: Any) -> Any:
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return without_halves(text).encode("utf-8")


def _in_line(value: Any) -> str:
    return _PARTING.sub(" ", str(value))


def _rows(columns: Slice) -> Iterator[dict[str, Any]]:
    lists = [values.tolist() if isinstance(values, np.ndarray) else values for values in columns.values()]
    for cells in zip(*lists, strict=True):
        yield dict(zip(columns, cells, strict=True))


_PARTING = re.compile(r"[\t\r\n]")
COMPRESSIBLE = (".csv", ".tsv", ".jsonl")
COMPRESSIONS = (".gz", ".zst")
_KINDS: dict[str, Callable[[], Format]] = {
    ".csv": Separated,
    ".tsv": lambda: Separated("\t"),
    ".jsonl": JsonLines,
    ".parquet": Parquet,
    ".npy": Npy,
    ".conll": Conll,
    ".json": ById,
}
