"""Files written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        BothwaysError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BothwaysError(f"{path} cannot be read as JSON ({error})") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file for people to read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a rename after it cannot come first."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def lock_file(handle: int) -> bool:
    """Keeps an open file for this process until it is closed; the system frees it however the process ends.

    Args:
        handle: The file's descriptor.

    Returns:
        False if another process has it. True where the system knows no such locks, too.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, flock  # of Unix alone

        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    except (ImportError, OSError):  # or a file system without locks
        return True
    return True


@contextmanager
def new_folder(folder: Path, what: str, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to write into that takes its name only when the block ends well.

    Args:
        folder: Its name in the end.
        what: What is saved, for messages: "the model".
        overwrite: Whether a folder of that name is replaced.

    Raises:
        BothwaysError: The folder is there already and not to be replaced, or the disk is full or read-only.
    """
    folder = folder.expanduser().resolve()
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise BothwaysError(f"{folder} exists already; choose another folder or say overwrite")
    half, old = folder.with_name(f".{folder.name}.tmp"), folder.with_name(f".{folder.name}.old")
    shutil.rmtree(half, ignore_errors=True)
    try:
        half.mkdir(parents=True)
        yield half
        for path in [*half.rglob("*"), half]:
            sync(path)
        replace_folder(half, folder, old)
    except OSError as error:
        raise BothwaysError(f"cannot save {what} in {folder}: {error.strerror or error}; nothing was changed") from None
    finally:
        shutil.rmtree(half, ignore_errors=True)


def replace_folder(new: Path, folder: Path, old: Path) -> None:
    """Puts `new` in the place of `folder`, which comes back if that fails."""
    shutil.rmtree(old, ignore_errors=True)
    if folder.is_dir():
        folder.rename(old)
    try:
        new.replace(folder)
    except OSError:
        if old.is_dir():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
