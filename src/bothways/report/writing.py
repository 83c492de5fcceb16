"""Pages reach the disk whole or not at all, and nothing is begun for one that could not."""

from __future__ import annotations

from pathlib import Path

from bothways.errors import BothwaysError
from bothways.whole import replace_text


def check_page(path: str | Path, overwrite: bool) -> None:
    """Refuses a page that could not be written, before any work is done for it.

    Args:
        path: The HTML file.
        overwrite: Whether what is there already is replaced.

    Raises:
        BothwaysError: Its name ends in something else, its folder is missing, or it is there already.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise BothwaysError(f"{path} should end in .html, which is what is written")
    if not path.parent.is_dir():
        raise BothwaysError(f"there is no folder {path.parent} to write {path.name} in; make it first")
    if path.is_dir():
        raise BothwaysError(f"{path} is a folder, which what is written now cannot replace; choose another name")
    if path.exists() and not overwrite:
        raise BothwaysError(f"{path} exists already; choose another name or --overwrite")


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
