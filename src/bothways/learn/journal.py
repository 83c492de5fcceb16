"""The log of a run: one JSON object a line, and TensorBoard's files when asked for."""

from __future__ import annotations

import errno
import io
import json
import math
import os
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, need


class Journal:
    """Lines as they are logged, kept in memory and, with a folder, in its ``log.jsonl``.

    Args:
        out: The run's folder, or None to keep the lines in memory only.
        end: How many bytes of an earlier log belong to this run; what comes after is cut off, so that the steps taken
            again are not logged twice.
        tensorboard: Whether TensorBoard's files are written into ``out/tensorboard``.
        writes: Whether lines are written; else those of before are read, and the new ones kept in memory.

    Attributes:
        lines: All lines, those from before an interruption first. Each has ``"event"``: ``"step"``, ``"evaluation"`` or
            one that an `Observer` has given.

    Raises:
        BothwaysError: The log cannot be written, or TensorBoard is asked for and not installed.
    """

    def __init__(self, out: Path | None, *, end: int = 0, tensorboard: bool = False, writes: bool = True) -> None:
        self.lines: list[dict[str, Any]] = []
        self._file: io.FileIO | None = None
        self._path = None if out is None else out / "log.jsonl"
        if tensorboard and out is None:
            raise BothwaysError("TensorBoard's files need a place: give an output folder")
        if tensorboard:
            need("tensorboard", "tensorboard", "The TensorBoard log")
        if out is not None:
            self._open(out / "log.jsonl", end, writes)
        self._board = self._make_board(out) if tensorboard and writes and out is not None else None

    def write(self, event: str, step: int, values: dict[str, Any]) -> None:
        """Adds a line.

        Args:
            event: ``"step"``, ``"evaluation"``, ...
            step: Steps taken so far.
            values: What is logged; numbers that are not finite become null, which JSON can hold.
        """
        line = {"event": event, "step": step, **{name: _plain(value) for name, value in values.items()}}
        self.lines.append(line)
        self._append(json.dumps(line, allow_nan=False) + "\n")
        if self._board is not None:
            for name, value in line.items():
                if isinstance(value, int | float) and name != "step":
                    self._board.add_scalar(f"{event}/{name}", value, step)

    def end(self) -> int:
        """The bytes of the log so far, all safely on the disk."""
        if self._file is None:
            return 0
        os.fsync(self._file.fileno())
        return os.fstat(self._file.fileno()).st_size

    def cut(self, end: int) -> None:
        """Takes back the lines after the first `end` bytes of the log."""
        if self._path is None:
            return
        kept = self._path.read_bytes()[:end]
        self.lines = [json.loads(line) for line in kept.splitlines()]
        if self._file is not None:
            self._file.truncate(end)

    def close(self) -> None:
        """Closes the files."""
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self, path: Path, end: int, writes: bool) -> None:
        try:
            kept = path.read_bytes()[:end] if end and path.exists() else b""
            kept = kept[: kept.rfind(b"\n") + 1]
            self.lines = [json.loads(line) for line in kept.splitlines()]
            if writes:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._file = io.FileIO(path, "a")  # unbuffered: a line is written whole or cut off again
                self._file.truncate(len(kept))
        except OSError as error:
            raise BothwaysError(f"{path}: the log cannot be written ({error.strerror})") from None
        except ValueError:
            raise BothwaysError(f"{path} is not the log that the run left: move it away to continue the run") from None

    def _append(self, text: str) -> None:
        if self._file is None:
            return
        before, data = os.fstat(self._file.fileno()).st_size, text.encode()
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            self._file.truncate(before)
            raise BothwaysError(f"{self._file.name!s}: the log cannot be written ({error.strerror})") from None

    def _make_board(self, out: Path) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        last = self.lines[-1]["step"] if self.lines else 0
        return SummaryWriter(str(out / "tensorboard"), purge_step=last + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
