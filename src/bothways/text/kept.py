"""Texts without number, kept so that memory does not grow with them: few in memory, many in a nameless file.

The file lies in the folder for temporary files (``TMPDIR``) and is gone with the last who reads it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from threading import Lock
from typing import BinaryIO, cast, overload

import numpy as np

from bothways.errors import BothwaysError

_IN_MEMORY = 32 << 20
"""Bytes that are kept in memory; when there are more, all go to the disk."""
_PORTION = 1 << 20
"""Bytes that are written, or read, at once."""
_SPARSE = 4
"""A stretch is read as one if it is not more than so many times as long as what is wanted of it."""


class Blob:
    """Bytes that grow at their end and are read anywhere, also by several threads."""

    def __init__(self) -> None:
        self._tail = bytearray()
        self._file: BinaryIO | None = None
        self._written = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return self._written + len(self._tail)

    def append(self, more: bytes) -> None:
        """Adds to the end.

        Raises:
            BothwaysError: The disk has no room for it.
        """
        self._tail += more
        if len(self._tail) > (_IN_MEMORY if self._file is None else _PORTION):
            with self._lock:
                self._write()

    def _write(self) -> None:
        import tempfile  # here, for most lists stay in memory and it takes a while

        try:
            if self._file is None:
                self._file = cast(BinaryIO, tempfile.TemporaryFile(buffering=0))  # noqa: SIM115
            self._file.seek(self._written)
            view = memoryview(self._tail)
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise BothwaysError(
                f"the data cannot be kept in the folder for temporary files, {tempfile.gettempdir()} "
                f"({error.strerror}): make room there, or name another one in the environment variable TMPDIR"
            ) from None
        self._written += len(self._tail)
        self._tail = bytearray()

    def read(self, start: int, end: int) -> bytes:
        """The bytes ``start:end``."""
        with self._lock:
            parts = []
            if start < self._written:
                assert self._file is not None
                self._file.seek(start)
                left = min(end, self._written) - start
                while left and (part := self._file.read(left)):
                    parts.append(part)
                    left -= len(part)
            if end > self._written:
                parts.append(bytes(self._tail[max(0, start - self._written) : end - self._written]))
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Texts(Sequence[str]):
    """A list of texts whose letters lie in a blob; it can only be read.

    Args:
        texts: What it holds.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._blob = Blob()
        self._edges = array("q", [0])
        self._places: np.ndarray | None = None
        for text in texts:
            self.append(text)

    def append(self, text: str) -> None:
        """Adds a text; not to what was taken from others."""
        assert self._places is None
        self._blob.append(text.encode("utf-8", "surrogatepass"))
        self._edges.append(len(self._blob))

    def take(self, places: Sequence[int] | np.ndarray) -> Texts:
        """Some of them, in the order given; nothing is copied."""
        found = Texts()
        found._blob, found._edges = self._blob, self._edges
        asked = np.asarray(places, dtype=np.int64)
        found._places = asked if self._places is None else self._places[asked]
        return found

    def __len__(self) -> int:
        return len(self._edges) - 1 if self._places is None else len(self._places)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Texts: ...
    def __getitem__(self, place: int | slice) -> str | Texts:
        if isinstance(place, slice):
            return self.take(np.arange(len(self))[place])
        number = range(len(self))[place]
        if self._places is not None:
            number = int(self._places[number])
        return self._decoded(self._blob.read(self._edges[number], self._edges[number + 1]))

    def __iter__(self) -> Iterator[str]:
        edges = np.array(self._edges, dtype=np.int64)
        places = np.arange(len(edges) - 1) if self._places is None else self._places
        begin = 0
        while begin < len(places):
            end = self._stretch(edges, places, begin)
            low = int(edges[places[begin]])
            whole = self._blob.read(low, int(edges[places[end - 1] + 1]))
            for place in places[begin:end].tolist():
                yield self._decoded(whole[edges[place] - low : edges[place + 1] - low])
            begin = end

    @staticmethod
    def _stretch(edges: np.ndarray, places: np.ndarray, begin: int) -> int:
        """Up to where texts lie so near to each other, in their order, that they are read at once."""
        ahead = places[begin : begin + 256]
        spans = edges[ahead + 1] - edges[ahead[0]]
        near = (np.diff(ahead, prepend=ahead[0] - 1) > 0) & (spans <= _PORTION)
        near &= spans <= _SPARSE * np.cumsum(edges[ahead + 1] - edges[ahead])
        return begin + max(1, len(near) if near.all() else int(near.argmin()))

    @staticmethod
    def _decoded(raw: bytes) -> str:
        return raw.decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self):,} texts>"


class Joined(Sequence[str]):
    """Pairs of texts, each as one text with a line's end between the two; nothing is copied.

    Args:
        first: N texts.
        second: As many.
    """

    def __init__(self, first: Sequence[str], second: Sequence[str]) -> None:
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self._first)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Joined: ...
    def __getitem__(self, place: int | slice) -> str | Joined:
        if isinstance(place, slice):
            return Joined(self._first[place], self._second[place])
        return f"{self._first[place]}\n{self._second[place]}"

    def __iter__(self) -> Iterator[str]:
        return (f"{one}\n{other}" for one, other in zip(self._first, self._second, strict=True))


class Sequences:
    """Encoded sequences as a model reads them, kept like texts.

    Attributes:
        texts: ``(S,)`` the text that each sequence comes from.
    """

    def __init__(self) -> None:
        self._token_ids, self._segment_ids = Blob(), Blob()
        self._edges = array("q", [0])
        self.texts = array("q")

    def __len__(self) -> int:
        return len(self.texts)

    def append(self, token_ids: np.ndarray, segment_ids: np.ndarray, starts: np.ndarray, texts: np.ndarray) -> None:
        """Adds S sequences.

        Args:
            token_ids: ``(T,)``.
            segment_ids: ``(T,)``.
            starts: ``(S + 1,)`` where each sequence begins among the T tokens.
            texts: ``(S,)`` the text that each comes from, by its number among all.
        """
        self._token_ids.append(token_ids.astype(np.int32).tobytes())
        self._segment_ids.append(segment_ids.astype(np.int8).tobytes())
        self._edges.frombytes((starts[1:].astype(np.int64) + self._edges[-1]).tobytes())
        self.texts.frombytes(texts.astype(np.int64).tobytes())

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """``(L,)`` int32 token ids and ``(L,)`` int8 segment ids of one sequence."""
        start, end = self._edges[number], self._edges[number + 1]
        return (
            np.frombuffer(self._token_ids.read(4 * start, 4 * end), dtype=np.int32),
            np.frombuffer(self._segment_ids.read(start, end), dtype=np.int8),
        )
