"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from bothways.errors import BothwaysError


def as_path(typed: str | Path) -> Path:
    """The path, with the user's folder in the place of ``~`` at its beginning, as a shell would have it.

    Raises:
        BothwaysError: It begins with the folder of a user whom nobody knows.
    """
    try:
        return Path(typed).expanduser()
    except RuntimeError:
        raise BothwaysError(f"{typed} begins with the folder of a user whom this machine does not know") from None


def is_there(path: Path) -> bool:
    """Whether there is something at a path; a name that is too long names nothing."""
    try:
        return path.exists()
    except OSError:
        return False
