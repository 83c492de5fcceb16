"""Small files that are there whole, or as they were, whatever happens while they are written."""

from __future__ import annotations

import os
from pathlib import Path

_ACCESS = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows waits for files only that are open for writing


def sync(path: Path) -> None:
    """Waits until a file or folder is on the disk, so that a rename after it cannot come first.

    Windows opens no folders; there the file system itself keeps the order of renames.
    """
    try:
        handle = os.open(path, _ACCESS)
    except PermissionError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def as_others_are(path: Path) -> None:
    """Gives a new file the rights that files usually get; safetensors lets its owner alone read what it writes."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def replace_bytes(path: Path, content: bytes) -> None:
    """Writes a small file so that at any moment either the old or the new one is there.

    Raises:
        OSError: It cannot be written; the old one is there.
    """
    half = path.with_name(f".{path.name}.half")
    try:
        half.write_bytes(content)
        sync(half)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
    sync(path.parent)


def replace_text(path: Path, text: str) -> None:
    """The same of a text, in UTF-8; half a surrogate pair as JSON escapes it."""
    replace_bytes(path, text.encode("utf-8", "backslashreplace"))
