"""Writing shards so that a kill at any moment loses nothing that was finished and leaves nothing half-finished.

A shard's tokens go to a temporary name, are synced to disk and renamed; its boundaries are appended to their files;
then ``unfinished.json``, the index of what is finished, is replaced. Whatever stands behind the index is cut off or
written over when the work goes on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import Progress
from bothways.text.shards import BOUNDARY, DOCUMENTS, SENTENCES, TOKEN_TYPES, UNFINISHED, Index, Shard, shard_name
from bothways.whole import replace_bytes

PARTIAL = ".partial"


@dataclass(frozen=True)
class Part:
    """Sentences of one document as tokens; a long document has several parts.

    Attributes:
        token_ids: ``(T,)`` tokens of all its sentences.
        lengths: ``(N,)`` tokens of each sentence, none 0.
        words: Words of their text.
        characters: Characters of their text.
        unknown: Unknown tokens.
        source: The digest of the document if this is its last part, else None.
    """

    token_ids: np.ndarray
    lengths: np.ndarray
    words: int
    characters: int
    unknown: int
    source: bytes | None


def write_shards(parts: Iterator[Part], folder: Path, index: Index, job: Progress) -> Index:
    """Writes all shards that are not in the index yet.

    Returns:
        The whole index.

    Raises:
        BothwaysError: The disk has no room for the next shard, or files of finished shards are missing.
    """
    _cut_back(folder / SENTENCES, index.total("sentences") + 1)
    _cut_back(folder / DOCUMENTS, index.total("documents") + 1)
    documents = index.total("documents")
    while True:
        _check_space(folder, index)
        with _ShardWriter(folder, index) as writer:
            for part in parts:
                writer.add(part)
                documents += part.source is not None
                job.advance(len(part.token_ids), note=f"{documents:,} documents")
                if writer.full:
                    break
            if not writer.tokens:
                return index
            index = writer.finish()


class _ShardWriter:
    """The shard that is being written; left without `finish`, it removes its half-written file."""

    def __init__(self, folder: Path, index: Index) -> None:
        self.folder, self.index = folder, index
        self.path = folder / shard_name(len(index.shards))
        self.partial = self.path.with_name(self.path.name + PARTIAL)
        self.kind = TOKEN_TYPES[index.token_type]
        self.content, self.source = blake2b(digest_size=16), blake2b(digest_size=16)
        self.lengths: list[np.ndarray] = []  # tokens of each sentence
        self.sizes: list[int] = []  # sentences of each document that has ended
        self.begun = 0  # sentences of the document that has not
        self.tokens = self.words = self.characters = self.unknown = self.read = 0

    def __enter__(self) -> _ShardWriter:
        self.file = self.partial.open("wb")
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()
        self.partial.unlink(missing_ok=True)

    @property
    def full(self) -> bool:
        """Whether the shard has all the tokens it should have and no document is in the middle."""
        return self.tokens >= self.index.shard_tokens and not self.begun

    def add(self, part: Part) -> None:
        """Writes the tokens of a part and remembers its boundaries."""
        content = part.token_ids.astype(self.kind).tobytes()
        self.file.write(content)
        self.content.update(content)
        self.lengths.append(part.lengths)
        self.begun += len(part.lengths)
        self.tokens += len(part.token_ids)
        self.words += part.words
        self.characters += part.characters
        self.unknown += part.unknown
        if part.source is not None:
            self.read += 1
            self.source.update(part.source)
            if self.begun:
                self.sizes.append(self.begun)
            self.begun = 0

    def finish(self) -> Index:
        """Makes the shard durable: its tokens, then its boundaries, then the index that counts it in."""
        lengths, sizes = np.concatenate(self.lengths), np.asarray(self.sizes, dtype=np.int64)
        self.content.update(lengths.astype(BOUNDARY).tobytes())
        self.content.update(sizes.astype(BOUNDARY).tobytes())
        _sync(self.file)
        self.partial.replace(self.path)
        _append(self.folder / SENTENCES, self.index.total("tokens") + np.cumsum(lengths))
        _append(self.folder / DOCUMENTS, self.index.total("sentences") + np.cumsum(sizes))
        shard = Shard(
            tokens=self.tokens,
            sentences=len(lengths),
            documents=len(sizes),
            words=self.words,
            characters=self.characters,
            unknown=self.unknown,
            read=self.read,
            source=self.source.hexdigest(),
            content=self.content.hexdigest(),
        )
        index = replace(self.index, shards=(*self.index.shards, shard))
        replace_bytes(self.folder / UNFINISHED, index.to_json().encode())
        return index


def _cut_back(path: Path, count: int) -> None:
    """Cuts off the boundaries that an interrupted shard left behind the `count` of the finished ones."""
    if count == 1:
        replace_bytes(path, np.zeros(1, BOUNDARY).tobytes())
    if not path.is_file() or path.stat().st_size < count * BOUNDARY.itemsize:
        raise BothwaysError(f"{path} is missing or cut short; remove {path.parent} and prepare the corpus again")
    os.truncate(path, count * BOUNDARY.itemsize)


def _append(path: Path, boundaries: np.ndarray) -> None:
    with path.open("ab") as file:
        file.write(boundaries.astype(BOUNDARY).tobytes())
        _sync(file)


def _sync(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _check_space(folder: Path, index: Index) -> None:
    needed = index.shard_tokens * (TOKEN_TYPES[index.token_type].itemsize + 1)  # one byte more for the boundaries
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BothwaysError(
            f"{folder} needs {needed / 1e6:,.0f} MB for the next shard and its disk has {free / 1e6:,.0f} MB left; "
            f"make room and prepare it again: it goes on after {index.total('documents'):,} documents"
        )
