"""Files written whole or not at all, by one run at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.whole import sync

RUNNING = ".running"
"""The file that keeps others out of a folder."""
_RESTART = 1.0
"""Seconds in which a run that was just killed lets its folder go."""


def read_json(path: Path) -> Any:
    """A JSON file.

    Raises:
        BothwaysError: It is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise BothwaysError(f"{path} cannot be read as JSON ({error})") from None


def as_json(value: Any) -> str:
    """JSON for people to read."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file for people to read."""
    path.write_bytes(as_json(value).encode("utf-8", "backslashreplace"))  # half a surrogate pair as JSON escapes it


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Keeps others from a file while the block runs; the system frees it however the process ends.

    Args:
        path: The file; made if absent, and left.

    Yields:
        False if it is another's at this moment.

    Raises:
        BothwaysError: It cannot be made.
    """
    from filelock import FileLock, Timeout  # here, for it takes a while

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise BothwaysError(f"{path.parent} cannot be written ({error.strerror}); give another place") from None
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def alone(folder: Path, instead: str = "give another folder") -> Iterator[None]:
    """Keeps other runs out of a folder, made where it is absent, while the block runs, however this process ends.

    Args:
        folder: The folder; gone afterwards if it was made here and nothing was left in it.
        instead: What to do where it cannot be had, for messages.

    Raises:
        BothwaysError: Another run works there, or it is a file or cannot be written.
    """
    from filelock import FileLock, Timeout  # here, for it takes a while

    made = not folder.exists()
    if not made and not folder.is_dir():
        raise BothwaysError(f"{folder} is a file, not a folder: {instead}")
    lock = FileLock(folder / RUNNING, timeout=_RESTART, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise BothwaysError(f"another run works in {folder} at this moment: wait for its end, or {instead}") from None
    except OSError as error:
        raise BothwaysError(f"{folder} cannot be written ({error.strerror}): {instead}") from None
    try:
        yield
    finally:
        (folder / RUNNING).unlink(missing_ok=True)
        lock.release()
        if made and not any(folder.iterdir()):
            folder.rmdir()


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
    folder = folder.resolve()
    bring_back(folder)
    if folder.exists() and not overwrite and (not folder.is_dir() or any(folder.iterdir())):
        raise BothwaysError(f"{folder} exists already; choose another folder or --overwrite")
    half, old = folder.with_name(f".{folder.name}.tmp"), _old(folder)
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
    except BaseException:  # Ctrl-C too
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def bring_back(folder: Path) -> None:
    """Gives a folder its name again, if the process that was replacing it by a new one was killed in between."""
    with suppress(OSError, ValueError):  # a name that nothing can have, or a place where nothing may be written
        if not folder.exists() and _old(folder).is_dir():
            _old(folder).rename(folder)


def _old(folder: Path) -> Path:
    """What a folder is called while it is replaced."""
    return folder.with_name(f".{folder.name}.old")
