"""Texts without columns: a text a line, or an array of NumPy's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.files import check_exists, find_files, is_stdin, kind_of, open_text, passes_once, shown
from bothways.text.rows import Rows, read_rows
from bothways.text.tables import Located

_COLUMN = "text"


def read_texts(source: Any, *, lines: bool | None = None) -> Rows:
    """Reads a table of texts, as `read_rows` does, and what has a text a line or an item.

    Args:
        source: Whatever `read_rows` takes, and files ``.txt`` with a text a line, also blank ones; ``.npy`` arrays of
            texts; arrays of NumPy's; folders of such files.
        lines: Whether any file and standard input have a text a line; None: those whose names end in ``.txt``.

    Raises:
        BothwaysError: It is missing, cannot be read, or an array holds something else.
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
        paths = _in_folder(path, lines)
        return _of_files(paths) if paths else read_rows(source)
    return _of_files([path]) if _is_plain(path, lines) else read_rows(source)


def files_of(source: str | Path) -> list[str | Path]:
    """The files that a path stands for, as `find_files` says; of a folder its arrays where it has any."""
    arrays = sorted(Path(source).rglob("*.npy")) if Path(source).is_dir() else []
    return [*arrays] or find_files(source)


def _is_plain(path: str | Path, lines: bool | None) -> bool:
    return bool(lines) or Path(path).suffix == ".npy" or (lines is None and kind_of(path) == "text")


def _in_folder(folder: Path, lines: bool | None) -> list[str | Path]:
    """Files of a folder where none is a table: then they are texts."""
    found = files_of(folder)
    return found if all(_is_plain(path, lines) for path in found) else []


def _of_files(paths: Sequence[str | Path]) -> Rows:
    def read(only: Sequence[str] | None) -> Iterator[Located]:
        return chain.from_iterable(
            _of_array(_opened(path), shown(path)) if Path(path).suffix == ".npy" else _of_lines(path) for path in paths
        )

    return Rows([_COLUMN], shown(paths[0]), read, once=any(map(passes_once, paths)))


def _of_lines(path: str | Path) -> Iterator[Located]:
    name = shown(path)
    with open_text(path) as numbered:
        for number, line in numbered:
            yield f"{name}, line {number}", {_COLUMN: line}


def _of_array(array: np.ndarray, name: str) -> Iterator[Located]:
    if array.ndim != 1 or array.dtype.kind not in "UOT":
        raise BothwaysError(f"{name} should be an array of texts in one row, not {array.dtype} {array.shape}")
    for number, text in enumerate(array, start=1):
        yield f"{name}, row {number}", {_COLUMN: str(text) if isinstance(text, np.str_) else text}


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
