"""What a store of passages can do, whichever it is, and which one a name means.

A place is a folder, the address of a store of objects (``s3://bucket/papers``), or the address of a server
(``postgresql://host/database#papers``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from bothways.errors import BothwaysError
from bothways.use.search.filters import Filter

APPROXIMATE_FROM = 50_000
"""Passages from which vectors are found through an index; fewer are all compared, which is exact and quick."""

SERVERS = ("postgresql://", "postgres://")
OBJECTS = ("s3://", "gs://", "az://")


@dataclass(frozen=True)
class Shape:
    """What is kept of a passage.

    Attributes:
        width: Numbers of a vector (E).
        kind: How they are kept: a name of `bothways.use.search.codes.KINDS`.
        similarity: ``"cosine"``, ``"dot"`` or ``"euclidean"``.
        language: Whose words are brought to their stems, such as ``"english"``; ``"none"`` for none.
    """

    width: int
    kind: str = "float32"
    similarity: str = "cosine"
    language: str = "english"


@dataclass(frozen=True)
class Passage:
    """A piece of a document.

    Attributes:
        document: The document's id.
        number: Its place in the document, from 0.
        text: What is read of it, with the document's title where it has one.
        metadata: What the document says beside its text: names and plain values.
        digest: Of the whole document, so that one that has not changed is told.
    """

    document: str
    number: int
    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""


class Key(NamedTuple):
    """Which passage."""

    document: str
    number: int


class Scored(NamedTuple):
    """A passage that was found.

    Attributes:
        key: Which.
        score: Higher is better.
    """

    key: Key
    score: float


@dataclass(frozen=True)
class Held:
    """What a store holds.

    Attributes:
        documents: How many documents.
        passages: How many passages.
        bytes: What it takes on disk or in memory; None where it cannot be told.
        indexed: How many of the vectors an index finds approximately; 0 where all are compared.
        engine: What keeps it, such as ``"LanceDB 0.40"``.
    """

    documents: int
    passages: int
    bytes: int | None
    indexed: int
    engine: str


class Store(Protocol):
    """Passages with their vectors. Whoever reads sees what was there when its question came, never half a change.

    Attributes:
        shape: What is kept of a passage.
    """

    shape: Shape

    def settings(self) -> dict[str, Any]:
        """What `remember` was told last."""
        ...

    def remember(self, settings: Mapping[str, Any]) -> None:
        """Keeps what the index has to know of itself."""
        ...

    def writing(self) -> AbstractContextManager[None]:
        """For one writer at a time.

        Raises:
            BothwaysError: Another one is writing.
        """
        ...

    def digests(self, documents: Sequence[str]) -> dict[str, str]:
        """The digests of those of the documents that are there."""
        ...

    def replace(self, documents: Sequence[str], passages: Sequence[Passage], vectors: np.ndarray) -> None:
        """Puts passages in, and takes out all that was there of their documents, in one step.

        Args:
            documents: The documents that are there already and are replaced, or removed if they have no passages.
            passages: The new passages.
            vectors: ``(passages, E)`` float32.
        """
        ...

    def documents(self, where: Filter | None = None) -> Iterator[str]:
        """The ids of all documents that pass a filter."""
        ...

    def nearest(self, query: np.ndarray, count: int, where: Filter | None, *, exact: bool = False) -> list[Scored]:
        """The passages whose vectors are nearest.

        Args:
            query: ``(E,)`` float32.
            count: How many.
            where: Which are asked.
            exact: Whether every vector is compared, index or not.
        """
        ...

    def matching(self, words: str, count: int, where: Filter | None) -> list[Scored]:
        """The passages that a text's words fit best, by BM25."""
        ...

    def fetch(self, keys: Sequence[Key]) -> dict[Key, Passage]:
        """Passages by their keys."""
        ...

    def vectors(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """All passages, in no order, some thousands at a time, with ``(passages, E)`` float32 vectors."""
        ...

    def tidy(self) -> None:
        """Brings indexes up to date and merges what was written in pieces."""
        ...

    def held(self) -> Held:
        """What it holds."""
        ...


def is_url(place: str | Path) -> bool:
    """Whether a place is an address, not a folder."""
    return "://" in str(place)


def open_store(place: str | Path) -> Store | None:
    """The store at a place; None where there is none yet.

    Raises:
        BothwaysError: The place is something else, or cannot be reached.
    """
    if str(place).startswith(SERVERS):
        from bothways.use.search.postgres import open_postgres

        return open_postgres(str(place))
    from bothways.use.search.lance import open_lance

    return open_lance(_checked(place))


def make_store(place: str | Path, shape: Shape, settings: Mapping[str, Any], *, overwrite: bool = False) -> Store:
    """Makes a store.

    Args:
        place: Where.
        shape: What is kept of a passage.
        settings: What it remembers.
        overwrite: Whether an index that is there is thrown away.

    Raises:
        BothwaysError: The place is something else, cannot be reached or written, or cannot keep such vectors, or
            another run is writing there.
    """
    if str(place).startswith(SERVERS):
        from bothways.use.search.postgres import make_postgres

        return make_postgres(str(place), shape, settings, overwrite=overwrite)
    from bothways.use.search.lance import make_lance

    return make_lance(_checked(place), shape, settings, overwrite=overwrite)


def _checked(place: str | Path) -> str:
    if is_url(place) and not str(place).startswith(OBJECTS):
        known = " ".join(["a folder", *(f"{start}..." for start in (*SERVERS[:1], *OBJECTS))])
        raise BothwaysError(f"an index cannot be kept at {place}; known are {known}")
    return str(place)
