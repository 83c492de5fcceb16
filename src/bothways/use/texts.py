"""Texts without columns: a text a line, or an array of NumPy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.columns import infer_columns
from bothways.text.files import check_exists, find_files, is_stdin, kind_of, open_text, passes_once, shown
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Located, read_table

_COLUMN = "text"


def read_texts(source: Any, *, lines: bool | None = None, text: str | None = None) -> Rows:
    """Reads a table of texts, as `read_rows` does, and what has a text a line or an item.

    Args:
        source: Whatever `read_rows` takes, and files ``.txt`` with a text a line, also blank ones; ``.npy`` arrays of
            texts; arrays of NumPy's; folders of such files, where texts beside tables stand in their column of texts.
        lines: Whether any file and standard input have a text a line; None: those whose names end in ``.txt``.
        text: The column of texts, if known.

    Raises:
        BothwaysError: It is missing, cannot be read, or an array holds something else; or it is not clear which column
            of the tables of a folder is the text.
    """
    if isinstance(source, np.ndarray):
        return Rows([_COLUMN], "the array", lambda only: _of_array(source, "the array"))
    if not isinstance(source, str | Path):
        return read_rows(source)
    if is_stdin(source):
        return _of_files([source]) if lines else read_rows(source)
    path = Path(source)
    check_exists(path)
    if path.is_dir():
        return _in_folder(path, lines, text)
    return _of_files([path]) if _is_plain(path, lines) else read_rows(source)


def files_of(source: str | Path) -> list[str | Path]:
    """The files that a path stands for, as `find_files` says, and of a folder its arrays too."""
    folder = Path(source)
    found: list[str | Path] = []
    if folder.is_dir():
        found += [path for path in folder.rglob("*.npy") if not _is_hidden(path.relative_to(folder))]
    if not found:
        return find_files(source)
    with suppress(BothwaysError):  # there is nothing but arrays
        found += find_files(source)
    return sorted(found, key=lambda file: Path(file).relative_to(folder).parts)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_plain(path: str | Path, lines: bool | None) -> bool:
    return bool(lines) or Path(path).suffix == ".npy" or (lines is None and kind_of(path) == "text")


def _in_folder(folder: Path, lines: bool | None, text: str | None) -> Rows:
    """All files of a folder: texts, tables, or texts beside tables, which are rows with that one column."""
    found = files_of(folder)
    if all(_is_plain(path, lines) for path in found):
        return _of_files(found)
    plain = [_is_plain(path, None) for path in found]
    if all(plain) or not any(plain):
        return read_rows(folder)
    tables = read_rows(folder)
    column = infer_columns(tables, text, need_label=False).text

    def read(only: Sequence[str] | None) -> Iterator[Located]:
        for path, is_plain in zip(found, plain, strict=True):
            yield from _of_plain(path, column) if is_plain else read_table(path, only)

    return Rows(tables.columns, tables.name, read)


def _of_files(paths: Sequence[str | Path]) -> Rows:
    def read(only: Sequence[str] | None) -> Iterator[Located]:
        return chain.from_iterable(_of_plain(path) for path in paths)

    return Rows([_COLUMN], shown(paths[0]), read, once=any(map(passes_once, paths)))


def _of_plain(path: str | Path, column: str = _COLUMN) -> Iterator[Located]:
    if Path(path).suffix == ".npy":
        return _of_array(_opened(path), shown(path), column)
    return _of_lines(path, column)


def _of_lines(path: str | Path, column: str) -> Iterator[Located]:
    name = shown(path)
    with open_text(path) as numbered:
        for number, line in numbered:
            yield f"{name}, line {number}", {column: line}


def _of_array(array: np.ndarray, name: str, column: str = _COLUMN) -> Iterator[Located]:
    if array.ndim != 1 or array.dtype.kind not in "UOT":
        raise BothwaysError(f"{name} should be an array of texts in one row, not {array.dtype} {array.shape}")
    for number, text in enumerate(array, start=1):
        yield f"{name}, row {number}", {column: str(text) if isinstance(text, np.str_) else text}


def _opened(path: str | Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).split("\n")[0]
        hint = "; save texts as an array of the type str" if "Object arrays" in reason else ""
        raise BothwaysError(f"{path} is not a NumPy file of texts that can be read ({reason}){hint}") from None


def npy_rows(path: Path) -> int | None:
    """How many rows an array on disk has; None where it cannot be read."""
    try:
        return len(_opened(path))
    except (BothwaysError, TypeError):
        return None
