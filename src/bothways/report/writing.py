"""Pages reach the disk whole or not at all."""

from __future__ import annotations

from pathlib import Path

from bothways.errors import BothwaysError
from bothways.whole import replace_text


def write_whole(path: str | Path, text: str, what: str) -> Path:
    """Writes a page.

    Args:
        path: The HTML file.
        text: All of it.
        what: What it is, for the message: ``"the report"``.

    Returns:
        The path.

    Raises:
        BothwaysError: The file cannot be written; what stood there before still does.
    """
    path = Path(path)
    try:
        replace_text(path, text)
    except OSError as error:
        raise BothwaysError(f"cannot write {what} {path}: {error.strerror}") from error
    return path
