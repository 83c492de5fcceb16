"""One writer at a time, held by a file that the system frees however the writer ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bothways.errors import BothwaysError
from bothways.run.files import lock_file


@contextmanager
def locked(path: Path, place: str) -> Iterator[None]:
    """Holds a lock while the block runs.

    Args:
        path: The file; made if absent, and left.
        place: What is written, for the message.

    Raises:
        BothwaysError: Another process holds it, or it cannot be written.
    """
    try:
        handle = path.open("w")
    except OSError as error:
        raise BothwaysError(f"cannot write the index {place}: {error.strerror or error}") from error
    with handle:
        if not lock_file(handle.fileno()):
            raise BothwaysError(f"another run is writing the index {place}; wait for it")
        yield
