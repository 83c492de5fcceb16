"""Where the files of a corpus lie: in a folder, or in an object store, whatever fsspec reaches (``s3://``, ``gs://``).

What comes from a store is kept in files without a name, which the system removes when nobody maps them any more,
however the process ends.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from bothways.errors import BothwaysError, need

T = TypeVar("T")

_TRIES, _PAUSE = 3, 1.0
"""How often a store is asked, and seconds before the second time; twice as many before each further one."""
_PIECE = 8 << 20


class Place(Protocol):
    """A place that holds files by name.

    Attributes:
        near: Whether reading anywhere in it costs nothing.
    """

    near: bool

    def size(self, name: str) -> int:
        """The bytes of a file; -1 if there is none."""
        ...

    def map(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        """``(count,)`` the numbers of a file, mapped into memory."""
        ...

    def path(self, name: str) -> Any:
        """A context: the file or folder on this machine, while it lasts."""
        ...

    def __str__(self) -> str:
        """What people call it."""
        ...


class Folder:
    """A folder."""

    near = True

    def __init__(self, folder: Path) -> None:
        self.folder, self._at = folder, folder.absolute()  # wherever the process goes meanwhile

    def size(self, name: str) -> int:
        """As `Place.size` says."""
        path = self._at / name
        return path.stat().st_size if path.is_file() else -1

    def map(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        """As `Place.map` says."""
        return np.asarray(np.memmap(self._at / name, dtype=kind, mode="r", shape=(count,)))

    @contextmanager
    def path(self, name: str) -> Iterator[Path]:
        """The file or folder itself."""
        yield self._at / name

    def __str__(self) -> str:
        return str(self.folder)


class Store:
    """A folder of an object store.

    Args:
        url: Such as ``s3://bucket/corpus``.

    Raises:
        BothwaysError: fsspec, or what it needs for this kind of store, is not installed.
    """

    near = False

    def __init__(self, url: str) -> None:
        fsspec = need("fsspec", "remote", "A corpus in an object store")
        self.url = url.rstrip("/")
        try:
            self._system, self._root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise BothwaysError(f"{url} cannot be reached: {str(error).rstrip('.')}") from None

    def size(self, name: str) -> int:
        """As `Place.size` says."""

        def ask() -> int:
            try:
                return int(self._system.info(f"{self._root}/{name}")["size"])
            except FileNotFoundError:
                return -1

        return self._ask(name, ask)

    def map(self, name: str, kind: np.dtype[Any], count: int) -> np.ndarray:
        """As `Place.map` says; the file is fetched whole first."""

        def fetch() -> np.ndarray:
            with tempfile.TemporaryFile(prefix="bothways-") as here, self._system.open(f"{self._root}/{name}") as there:
                while piece := there.read(_PIECE):
                    here.write(piece)
                here.flush()
                return np.asarray(np.memmap(here, dtype=kind, mode="r", shape=(count,)))

        return self._ask(name, fetch)

    @contextmanager
    def path(self, name: str) -> Iterator[Path]:
        """A copy of the file or folder."""
        with tempfile.TemporaryDirectory(prefix="bothways-") as folder:
            copy = Path(folder) / name
            self._ask(name, lambda: self._system.get(f"{self._root}/{name}", str(copy), recursive=True))
            yield copy

    def __str__(self) -> str:
        return self.url

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.url,)

    def _ask(self, name: str, ask: Callable[[], T]) -> T:
        for tries in range(_TRIES):
            try:
                return ask()
            except Exception as error:  # each kind of store has failures of its own
                last = error
            time.sleep(_PAUSE * 2**tries if tries + 1 < _TRIES else 0)
        why = " ".join(str(last).split()) or type(last).__name__
        raise BothwaysError(f"{self.url}/{name} cannot be read ({why}); after {_TRIES} tries") from None


def place_of(corpus: str | Path) -> Place:
    """The place that a path or an address names."""
    return Store(str(corpus)) if "://" in str(corpus) else Folder(Path(corpus))
