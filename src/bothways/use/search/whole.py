"""All documents of an index at once: their vectors, their texts, and a table about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.run.pooling import normalize
from bothways.text.truncation import Truncation
from bothways.use.draft import open_draft
from bothways.use.search.index import Index
from bothways.use.search.store import Passage
from bothways.use.target import Target, find_target

TABLES = (".csv", ".jsonl", ".parquet", ".tsv")
_LETTERS = 400
"""Of a text, where it is only shown."""


@dataclass(frozen=True)
class Whole:
    """N documents in the order of their ids.

    Attributes:
        documents: ``N`` ids.
        texts: The beginning of each: its first passage, whole or cut.
        metadata: What is known of each.
        vectors: ``(N, E)`` float32 of length 1: the mean of the document's passages.
        prints: What tells whole texts apart, but for spaces and the size of letters.
    """

    documents: list[str]
    texts: list[str]
    metadata: list[Mapping[str, Any]]
    vectors: np.ndarray
    prints: list[int]


def read_whole(index: Index, *, letters: int | None = _LETTERS) -> Whole:
    """Reads all documents of an index.

    Args:
        index: The index.
        letters: How much of each text is kept; None for its first passage whole.

    Raises:
        BothwaysError: It holds none.
    """
    sums: dict[str, np.ndarray] = {}
    first: dict[str, tuple[str, Mapping[str, Any]]] = {}
    prints: dict[str, int] = {}
    with progress("Reading the index", index.held().passages, "passages") as job:
        for passages, vectors in index.store.vectors():
            for each, vector in zip(passages, normalize(vectors), strict=True):
                if each.document in sums:
                    sums[each.document] += vector
                else:
                    sums[each.document] = vector.astype(np.float32)
                prints[each.document] = prints.get(each.document, 0) ^ _print(each)
                if not each.number:
                    first[each.document] = (each.text[:letters], each.metadata)
            job.advance(len(passages))
    if not sums:
        raise BothwaysError(f"the index {index.place} holds no documents")
    names = sorted(name for name in sums if name in first)
    vectors_NE = normalize(np.stack([sums[name] for name in names]))
    texts, metadata = zip(*(first[name] for name in names), strict=True)
    return Whole(names, list(texts), list(metadata), vectors_NE, [prints[name] for name in names])


def _print(passage: Passage) -> int:
    plain = f"{passage.number} {' '.join(passage.text.casefold().split())}"
    return int.from_bytes(blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest())


def find_table(out: str | Path, *, overwrite: bool) -> Target:
    """Refuses a table that could not be written, before any work is done for it.

    Args:
        out: A file whose ending is one of `TABLES`.
        overwrite: Whether a file of that name is replaced.

    Raises:
        BothwaysError: The ending is another one, its folder is missing, or the file is there already.
    """
    target = find_target(out, TABLES, overwrite=overwrite)
    if target is None or target.shard_rows is not None:
        raise BothwaysError(f"{out} should be a file that ends in one of {', '.join(TABLES)}")
    return target


def write_rows(out: str | Path, columns: Mapping[str, Sequence[Any]], *, overwrite: bool) -> None:
    """Writes a table, whole or not at all.

    Args:
        out: As `find_table` takes it, and so is `overwrite`.
        columns: Its columns, equally long.
        overwrite: Whether a file of that name is replaced.

    Raises:
        BothwaysError: As for `find_table`, or it cannot be written.
    """
    target = find_table(out, overwrite=overwrite)
    rows = len(next(iter(columns.values())))
    with open_draft(target, {"job": "table"}, resume=False) as draft:
        draft.append({name: list(values) for name, values in columns.items()}, rows, "", 0, Truncation())
        draft.finish()
