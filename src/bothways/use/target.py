"""Where answers go: a file, a folder of shards, or standard output, told by a name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bothways.errors import BothwaysError, closest
from bothways.use.formats import COMPRESSIBLE, COMPRESSIONS

SHARD_ROWS = 1_000_000
"""Of a folder, where nobody says how many."""
STDOUT = "-"


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
    out: str | Path, kinds: Sequence[str], *, shard_rows: int | None = None, overwrite: bool = False
) -> Target | None:
    """Refuses an output that could not be written, before any work is done for it.

    Args:
        out: A file, or a folder of shards: a name without an ending, or any with `shard_rows`; or ``-``.
        kinds: The endings that make sense here, such as ``(".csv", ".jsonl")``.
        shard_rows: Rows of a shard.
        overwrite: Whether what is there already is replaced.

    Returns:
        The output, or None for standard output.

    Raises:
        BothwaysError: The ending is not one of `kinds`, its folder is missing, or it is there already.
    """
    if shard_rows is not None and shard_rows < 1:
        raise BothwaysError(f"a shard should have at least one row, not shard_rows={shard_rows}")
    if str(out) == STDOUT:
        if shard_rows is not None:
            raise BothwaysError("standard output has no shards; name a folder to write them in")
        return None
    path = Path(out)
    target = _named(path, kinds, shard_rows)
    if not path.parent.is_dir():
        raise BothwaysError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    empty = target.shard_rows is not None and path.is_dir() and not any(path.iterdir())
    if path.exists() and not overwrite and not empty:
        raise BothwaysError(f"{path} is there already; choose another name or --overwrite")
    if path.exists() and path.is_dir() != (target.shard_rows is not None):
        is_now = "a folder" if path.is_dir() else "a file"
        raise BothwaysError(f"{path} is {is_now}, which what is written now cannot replace; choose another name")
    return target


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
