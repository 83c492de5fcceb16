"""Where answers go: a file, a folder of shards, or standard output, told by a name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.paths import as_path
from bothways.text.files import find_files, is_stdin
from bothways.text.rows import are_files
from bothways.use.formats import COMPRESSIBLE, COMPRESSIONS

SHARD_ROWS = 1_000_000
"""Of a folder, where nobody says how many."""
STDOUT = "-"
STATE, LOCK = ".state.json", ".lock"
"""Files of the folder of work; a kill right before the end leaves them beside the shards."""
_SHARD = re.compile(r"part-\d{5,}\.\w+(\.\w+)?")


@dataclass(frozen=True)
class Target:
    """An output that can be written.

    Attributes:
        path: Its name in the end.
        kind: The ending that says what is written, such as ``".csv"``.
        compression: ``".gz"``, ``".zst"``, or nothing.
        shard_rows: Rows of a shard, for a folder of them; None for one file.
    """

    path: Path
    kind: str
    compression: str = ""
    shard_rows: int | None = None

    @property
    def work(self) -> Path:
        """The folder beside it that holds what is not finished."""
        return self.path.with_name(f".{self.path.name}.part")

    def shard(self, number: int) -> str:
        """What a shard is called."""
        return f"part-{number:05d}{self.kind}{self.compression}"


def find_target(
    out: str | Path,
    kinds: Sequence[str],
    *,
    shard_rows: int | None = None,
    overwrite: bool = False,
    reads: Iterable[Any] = (),
) -> Target | None:
    """Refuses an output that could not be written, before any work is done for it.

    Args:
        out: A file, or a folder of shards: a name without an ending, or any with `shard_rows`; or ``-``.
        kinds: The endings that make sense here, such as ``(".csv", ".jsonl")``.
        shard_rows: Rows of a shard.
        overwrite: Whether what is there already is replaced; of folders those that hold shards and nothing else.
        reads: The sources that the answers are made from: paths or lists of them; anything else is passed over.

    Returns:
        The output, or None for standard output.

    Raises:
        BothwaysError: It has no name, the ending is not one of `kinds`, its folder is missing, it is there already, or
            what would be replaced is to be read or is something else.
    """
    if shard_rows is not None and shard_rows < 1:
        raise BothwaysError(f"a shard should have at least one row, not shard_rows={shard_rows}")
    if str(out) == STDOUT:
        if shard_rows is not None:
            raise BothwaysError("standard output has no shards; name a folder to write them in")
        return None
    path = as_path(out)
    if path.name in ("", ".."):
        raise BothwaysError(f"{str(out)!r} names nothing that could be written; give a file or a folder with a name")
    target = _named(path, kinds, shard_rows)
    if not path.parent.is_dir():
        raise BothwaysError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    empty = target.shard_rows is not None and path.is_dir() and not any(path.iterdir())
    if path.exists() and not overwrite and not empty:
        raise BothwaysError(f"{path} is there already; choose another name or --overwrite")
    if path.exists() and path.is_dir() != (target.shard_rows is not None):
        is_now = "a folder" if path.is_dir() else "a file"
        raise BothwaysError(f"{path} is {is_now}, which what is written now cannot replace; choose another name")
    if path.exists():
        _check_replaced(path, reads)
    return target


def _check_replaced(path: Path, reads: Iterable[Any]) -> None:
    """Refuses to replace what is to be read, and a folder that holds more than shards."""
    for read in chain.from_iterable(map(_files_of, reads)):
        if path.resolve() in (read.resolve(), *read.resolve().parents):
            raise BothwaysError(f"{read} is to be read, and overwriting {path} would remove it; choose another name")
    if not path.is_dir():
        return
    for entry in path.iterdir():
        if entry.name not in (STATE, LOCK) and not (_SHARD.fullmatch(entry.name) and entry.is_file()):
            raise BothwaysError(
                f"{path} holds something else than shards ({entry.name}), which is not replaced; choose another folder"
            )


def _files_of(source: Any) -> list[Path]:
    """The files of a source that are there; a folder stands for itself and for those in it that would be read."""
    paths = source if isinstance(source, list | tuple) and are_files(source) else [source]
    named = [Path(one) for one in paths if isinstance(one, str | Path) and not is_stdin(one)]
    return named + [Path(file) for folder in named if folder.is_dir() for file in find_files(folder)]


def _named(path: Path, kinds: Sequence[str], shard_rows: int | None) -> Target:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    kind = suffixes[-1] if suffixes else ""
    if not kind and not compression:
        return Target(path, ".parquet" if ".parquet" in kinds else kinds[0], "", shard_rows or SHARD_ROWS)
    if kind not in kinds or (compression and kind not in COMPRESSIBLE):
        raise BothwaysError(
            f"{path} should end in {', '.join(kinds[:-1])} or {kinds[-1]}, which says what is written (or in nothing, "
            f"for a folder of shards){closest(kind, kinds) if kind else ''}"
        )
    return Target(path, kind, compression, shard_rows)
