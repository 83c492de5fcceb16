"""What is known of a corpus halfway: the tidied documents and what copies are found by, appended to files.

Every so often the files are synced and the state that says how long they are is replaced; what stands behind it after
a kill is cut off, and the work goes on with the documents behind the ones that the state has counted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.cleaning.wash import Figures, Washed
from bothways.text.documents import Document
from bothways.whole import replace_bytes

TEXT, STATE = "text.jsonl.zst", "state.json"
_SECONDS = 5.0  # between two states
_ROOM = 100_000_000  # bytes that have to be free


@dataclass
class State:
    """How far the documents of the sources are read.

    Attributes:
        recipe: What decides on the result; another run goes on only with the same.
        kept: Documents in the files.
        digest: Of all documents read.
        whole: Whether these are all.
        sizes: Bytes of each file.
        figures: What was counted.
    """

    recipe: dict[str, Any]
    kept: int = 0
    digest: str = ""
    whole: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    figures: Figures = field(default_factory=Figures)


class Reading:
    """A digest of documents as they are read."""

    def __init__(self) -> None:
        self._read = blake2b(digest_size=16)

    def note(self, document: Document) -> None:
        """Counts a document in."""
        text = "\0".join((*document.paragraphs, ""))
        self._read.update(text.encode("utf-8", "surrogatepass"))

    @property
    def digest(self) -> str:
        """Of all documents so far."""
        return self._read.hexdigest()


class Draft:
    """The files; a context, closed at its end.

    Attributes:
        state: How far they are.
        reading: The digest of the documents read.

    Args:
        folder: Where they lie; made where it is not there.
        recipe: What decides on the result.

    Raises:
        BothwaysError: They were begun otherwise.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.state = State(recipe)
        self.reading = Reading()
        self._files: dict[str, IO[bytes]] = {}
        self._kept = time.monotonic()
        if (folder / STATE).is_file():
            self.state = _read_state(folder / STATE)
            if self.state.recipe != recipe:
                told = differing(self.state.recipe, recipe)
                raise BothwaysError(
                    f"{_out(folder)} was begun otherwise ({told}); give the same, another folder, or overwrite"
                )
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def __enter__(self) -> Draft:
        self._open = ExitStack()
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()
        if not (self.folder / STATE).is_file():  # nothing was kept that one could go on with
            shutil.rmtree(self.folder, ignore_errors=True)

    def rest(self, documents: Iterator[tuple[Document, int]]) -> Iterator[tuple[Document, int]]:
        """The documents that are not counted yet.

        Raises:
            BothwaysError: Those that are counted are not the first of these, or were said to be all and are not.
        """
        state = self.state
        for _ in range(state.figures.read):
            if (found := next(documents, None)) is not None:
                self.reading.note(found[0])
        others = state.figures.read and self.reading.digest != state.digest
        if others or (state.whole and next(documents, None) is not None):
            raise BothwaysError(
                f"{_out(self.folder)} was begun with another source, or the source has changed; give another folder, "
                "or overwrite"
            )
        return documents

    def append(self, washed: Washed, digest: str) -> None:
        """Adds documents that were washed.

        Args:
            washed: They.
            digest: Of all documents read up to them.

        Raises:
            BothwaysError: The disk has hardly any room left.
        """
        state = self.state
        columns = dict(washed.columns)
        if "lines" in columns:
            columns["lines"] = columns["lines"].copy()  # what comes from a cluster may only be read
            columns["lines"]["document"] += state.kept
        self._write(TEXT, washed.frame)
        for name, column in columns.items():
            self._write(name, column.tobytes())
        state.kept += len(columns["documents"])
        state.figures.add(washed.figures)
        state.digest = digest
        if time.monotonic() - self._kept > _SECONDS:
            self.keep()

    def keep(self, whole: bool = False) -> None:
        """Makes sure that a kill loses nothing of what was added."""
        if shutil.disk_usage(self.folder).free < _ROOM:
            raise BothwaysError(
                f"the disk of {_out(self.folder)} has less than {_ROOM / 1e6:.0f} MB left; make room and say the same "
                "again: it goes on where it stopped"
            )
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
        self.state.whole = whole
        figures = self.state.figures.to_json()
        content = json.dumps({**vars(self.state), "figures": figures}, ensure_ascii=False)
        replace_bytes(self.folder / STATE, content.encode("utf-8", "replace"))
        self._kept = time.monotonic()

    def forget(self) -> None:
        """Sees to it that nobody goes on with it: at its end it is removed."""
        (self.folder / STATE).unlink(missing_ok=True)

    def column(self, name: str, kind: np.dtype[Any], width: int = 1) -> np.ndarray:
        """A file as an array, memory-mapped: ``(N,)``, or ``(N, width)``."""
        path, size = self.folder / name, self.state.sizes.get(name, 0)
        shape = (size // (kind.itemsize * width),) if width == 1 else (size // (kind.itemsize * width), width)
        return np.memmap(path, kind, "r", shape=shape) if size else np.empty(shape, kind)

    def scratch(self, name: str) -> np.ndarray:
        """``(N,)`` int64, all -1, on disk."""
        if not self.state.kept:
            return np.empty(0, np.int64)
        made = np.memmap(self.folder / name, np.int64, "w+", shape=(self.state.kept,))
        made[:] = -1
        return made

    def _write(self, name: str, content: bytes) -> None:
        sizes = self.state.sizes
        if name not in self._files:
            file = self._open.enter_context((self.folder / name).open("ab"))
            file.truncate(sizes.get(name, 0))  # what a kill left behind the state
            self._files[name] = file
        self._files[name].write(content)
        sizes[name] = sizes.get(name, 0) + len(content)


def _read_state(path: Path) -> State:
    found = json.loads(path.read_text(encoding="utf-8"))
    return State(**{**found, "figures": Figures.from_json(found["figures"])})


def _out(folder: Path) -> Path:
    return folder.parent


def differing(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What two recipes differ in, in words."""
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)
