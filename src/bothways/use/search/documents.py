"""What is indexed: documents with an id, perhaps a title, their text, and what else is known of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.columns import check_column, find_text, is_missing
from bothways.text.documents import Document, read_documents
from bothways.text.files import find_files, is_stdin, kind_of
from bothways.text.rows import Rows, are_files, is_table
from bothways.use.texts import read_texts

IDS = ("id", "_id", "doc_id", "document_id", "docid", "uid", "uuid")
TITLES = ("title", "headline", "subject")
PLACE = "source"
"""What the place of a text without columns is called in its metadata."""


@dataclass(frozen=True)
class Entry:
    """A document to index.

    Attributes:
        document: Its id.
        text: Its text.
        title: What stands before every passage of it; empty for nothing.
        metadata: What else is known of it: names and plain values.
        where: Its place, for messages.
        own: Whether the id is its own; else it is a hash of its text.
    """

    document: str
    text: str
    title: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    own: bool = True

    @property
    def digest(self) -> str:
        """A hash of all that is kept of it."""
        plain = json.dumps([self.text, self.title, self.metadata], sort_keys=True, ensure_ascii=False)
        return _hash(plain)


def read_entries(
    source: Any, *, id: str | None = None, text: str | None = None, title: str | None = None, lines: bool = False
) -> Iterator[Entry]:
    """Reads documents from wherever they are, as a stream.

    Args:
        source: Tables (a row is a document) and plain texts (a blank line ends a document): files, folders, a list of
            them, ``-`` for JSON lines from standard input, a frame, dicts, texts, `Entry`.
        id: The column of ids; found by usual names, else a document is told by a hash of its text.
        text: The column of texts; found by usual names.
        title: The column of titles; found by usual names.
        lines: Whether each line of a file, or of standard input, is a document.

    Raises:
        BothwaysError: The source is missing, a column is absent, or a row has no id or no text in it.
    """
    named = {"id": id, "text": text, "title": title}
    if isinstance(source, str | Path):
        yield from _from_path(source, named, lines)
    elif isinstance(source, list | tuple) and are_files(source):
        for path in source:
            yield from _from_path(path, named, lines)
    elif is_table(source):
        yield from _from_rows(read_texts(source), named)
    else:
        yield from _from_items(source, named)


def begun(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The same documents, read up to the first with text: what is wrong with the source is told before any work.

    Raises:
        BothwaysError: None has text, or as for `read_entries`.
    """
    read: list[Entry] = []
    for entry in entries:
        read.append(entry)
        if entry.text.strip() or entry.title.strip():
            return chain(read, entries)
    raise BothwaysError("the source holds no text to index")


def _from_path(path: str | Path, named: Mapping[str, str | None], lines: bool) -> Iterator[Entry]:
    files = [path] if is_stdin(path) else find_files(path)
    for file in files:
        kind = kind_of(file)
        table = kind not in ("text", None) or (kind is None and any(named.values()))  # only tables have columns
        if lines or is_stdin(file) or table:
            yield from _from_rows(read_texts(file, lines=lines or None), named)
            continue
        for document in read_documents(file):
            yield _plain(document)


def _from_items(source: Any, named: Mapping[str, str | None]) -> Iterator[Entry]:
    items = iter(source)
    first = next(items, None)
    if first is None:
        raise BothwaysError("the source holds no documents")
    every = source if isinstance(source, list | tuple) else chain([first], items)
    if isinstance(first, Entry):
        yield from every
    elif isinstance(first, Document):
        yield from map(_plain, every)
    else:
        yield from _from_rows(read_texts(every), named)


def _plain(document: Document) -> Entry:
    text = "\n".join(document.paragraphs)
    return Entry(_hash(text), text, "", {PLACE: document.name} if document.name else {}, document.name, own=False)


def _from_rows(rows: Rows, named: Mapping[str, str | None]) -> Iterator[Entry]:
    for column in named.values():
        check_column(rows, column)
    lowered = {name.lower(): name for name in reversed(rows.columns)}
    text = named["text"] or find_text(rows)
    key = named["id"] or next((lowered[name] for name in IDS if name in lowered), None)
    title = named["title"] or next((lowered[name] for name in TITLES if name in lowered), None)
    title = None if title == text else title
    for where, row in rows.located():
        body = _string(row, text, where)
        head = "" if title is None else _string(row, title, where)
        metadata = {name: _value(value) for name, value in row.items() if name not in (text, key)}
        known = {name: value for name, value in metadata.items() if value is not None}
        if key is None:
            document = _hash(f"{head}\n{body}")
        else:
            value = _value(row.get(key))
            if value is None or value == "":
                raise BothwaysError(f"{where}: there is no id in the column {key!r}")
            document = value if isinstance(value, str) else json.dumps(value)
        yield Entry(document, body, head, known, where, own=key is not None)


def _string(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if is_missing(value):
        return ""
    if not isinstance(value, str):
        raise BothwaysError(
            f"{where}: the column {column!r} should hold text, not {type(value).__name__} {value!r:.40}"
        )
    return value.strip()


def _value(value: Any) -> Any:
    """A value as JSON has it; None where there is none."""
    if is_missing(value) or (isinstance(value, float) and not math.isfinite(value)):
        return None
    if isinstance(value, str | bool | int | float):
        return value
    if hasattr(value, "tolist"):  # of NumPy
        return _value(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): _value(inner) for key, inner in value.items()}
    if isinstance(value, Sequence | set) and not isinstance(value, bytes):
        return [_value(inner) for inner in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
