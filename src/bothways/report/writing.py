"""Pages reach the disk whole or not at all."""

from __future__ import annotations

from pathlib import Path

from bothways.errors import BothwaysError


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
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise BothwaysError(f"cannot write {what} {path}: {error.strerror}") from error
    return path
