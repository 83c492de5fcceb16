"""How much there is to do, and how much will come of it, told before it is begun."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.files import GZIP, ZSTD, find_files, is_stdin, kind_of, passes_once
from bothways.text.rows import are_files
from bothways.use.texts import files_of, npy_rows

_SAMPLE = 1 << 20
_FILES = 20  # looked into; what they hold is taken for all of a folder
_LINES = ("text", "jsonl", "csv", "tsv")


def rows_of(source: Any) -> int | None:
    """About how many rows a table has; None where nobody can tell, such as of standard input.

    Args:
        source: Whatever `read_rows` takes. Of files of lines the beginnings are looked at, and their sizes.
    """
    if isinstance(source, str | Path):
        return None if is_stdin(source) else _of_files(files_of(source))
    if isinstance(source, list | tuple) and are_files(source):
        return _of_files([path for given in source for path in find_files(given)])
    if isinstance(source, Mapping):
        return next((len(values) for values in source.values() if hasattr(values, "__len__")), None)
    return len(source) if hasattr(source, "__len__") else None


def _of_files(paths: list[Any]) -> int | None:
    if any(passes_once(path) for path in paths):
        return None
    looked = paths[:: max(1, len(paths) // _FILES)]
    rows, size = 0.0, 0
    for path in looked:
        found = _of_file(Path(path))
        if found is None:
            return None
        rows, size = rows + found, size + Path(path).stat().st_size
    return round(rows * sum(Path(path).stat().st_size for path in paths) / max(1, size))


def _of_file(path: Path) -> float | None:
    if path.suffix == ".npy":
        return npy_rows(path)
    kind = kind_of(path)
    if kind == "parquet":
        from pyarrow import ArrowException, parquet

        with suppress(ArrowException, OSError):
            return float(parquet.read_metadata(path).num_rows)
        return None
    if kind not in _LINES or path.name.lower().partition(".")[2].startswith("json."):
        return None
    with path.open("rb") as file:
        raw = file.read(_SAMPLE)
    lines = _uncompressed(raw).count(b"\n")
    if len(raw) < _SAMPLE:
        return max(1, lines - (kind in ("csv", "tsv")))
    return lines * path.stat().st_size / len(raw)


def _uncompressed(raw: bytes) -> bytes:
    """The beginning of a file as far as it goes, all the parts that it was written in."""
    begin: Callable[[], Any]
    broken: type[Exception]
    if raw.startswith(GZIP):
        begin, broken = partial(zlib.decompressobj, 31), zlib.error
    elif raw.startswith(ZSTD):
        import zstandard

        begin, broken = zstandard.ZstdDecompressor().decompressobj, zstandard.ZstdError
    else:
        return raw
    whole = b""
    with suppress(broken):
        while raw:
            part = begin()
            whole += part.decompress(raw)
            raw = part.unused_data
    return whole


def expected(rows: int, row_bytes: float, out: Path) -> str:
    """One sentence on what is going to be written, and whether the disk has room for it.

    Args:
        rows: About how many rows.
        row_bytes: About how many bytes each takes.
        out: Where they go.
    """
    size = rows * row_bytes
    with suppress(OSError, BothwaysError):
        free = shutil.disk_usage(out.parent).free
        if size > free:
            return f"about {rows:,} rows, {said_size(size)} in {out}, where only {said_size(free)} are free"
    return f"about {rows:,} rows, {said_size(size)} in {out}"


def said_size(size: float) -> str:
    """Bytes as people say them."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"
