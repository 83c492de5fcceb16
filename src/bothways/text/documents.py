"""Raw text as documents: files of any kind, folders, strings, frames and data sets, one document after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.text.columns import check_column, find_text, is_missing
from bothways.text.files import beginning, find_files, kind_of, numbered, open_bytes, shown
from bothways.text.rows import Rows, are_files, is_table, read_rows, stream_rows
from bothways.text.tables import parse_table

USUAL = "text"  # the column that is meant where none is named
LONGEST_PARAGRAPH = 1 << 20  # bytes, and
LONGEST_DOCUMENT = 4_000_000  # characters: what is longer is read in parts, so that memory stays constant

Source = Any  # whatever `read_documents` takes


@dataclass(frozen=True)
class Document:
    """A text of one origin.

    Attributes:
        paragraphs: Its paragraphs in order, none of them blank.
        name: Where it came from, such as "corpus.txt, line 17".
    """

    paragraphs: list[str]
    name: str = ""


def read_documents(source: Source, text: str = USUAL) -> Iterator[Document]:
    """Reads documents as a stream, in constant memory.

    Args:
        source: A file, a folder or a list of files (``.txt``: a blank line ends a document, every other line is a
            paragraph; ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``: a row is a document; gzip or zstd of them), "-" for
            standard input, a frame of pandas or polars, a ``datasets.Dataset``, or an iterable of strings, `Document`
            or dicts. Standard input and files whose names say nothing are read like ``.txt``, but as a table where they
            begin like JSON lines or `text` names a column.
        text: The column that holds the text. Where there is no column "text" and none other is named, it is told from
            usual names.

    Yields:
        Documents with at least one paragraph. Lines over a million bytes and documents over four million characters
        come in parts.

    Raises:
        BothwaysError: The source is missing, empty, holds no text, or is wrong in any way; the sentence says where.
    """
    name = shown(source) if isinstance(source, str | Path) else "the source"
    found = False
    for document in _read(source, text):
        for part in _parts(document):
            found = True
            yield part
    if not found:
        raise BothwaysError(f"{name} holds no text")


def _read(source: Source, text: str) -> Iterator[Document]:
    if isinstance(source, Document):
        return iter([source])
    if isinstance(source, str | Path):
        return chain.from_iterable(_from_file(path, text) for path in _files(source))
    if isinstance(source, list | tuple) and are_files(source):
        return chain.from_iterable(_from_file(path, text) for given in source for path in _files(given))
    if is_table(source):
        return _from_rows(read_rows(source), text)
    if isinstance(source, Iterable):
        return _from_items(source, text)
    raise BothwaysError(f"documents cannot be read from {type(source).__name__}; give a file, a folder or texts")


def _files(source: str | Path) -> list[str | Path]:
    files = find_files(source)
    if len(files) == 1:
        return files
    return [path for path in files if Path(path).stat().st_size]  # an empty file among others holds nothing to miss


def _from_file(path: str | Path, text: str) -> Iterator[Document]:
    kind, name = kind_of(path), shown(path)
    if kind in ("jsonl", "csv", "tsv", "parquet"):
        yield from _from_rows(read_rows(path), text)
        return
    with open_bytes(path) as stream:
        # standard input, or a name that says nothing: only tables have columns
        if kind is None and (text != USUAL or beginning(stream).startswith(b"{")):
            table = parse_table(numbered(stream, name), name, None)
            yield from _from_rows(stream_rows(table, name), text)
        else:
            yield from _from_lines(numbered(stream, name, LONGEST_PARAGRAPH), name)


def _from_lines(lines: Iterable[tuple[int, str]], name: str) -> Iterator[Document]:
    paragraphs: list[str] = []
    began = size = 0
    for number, line in lines:
        paragraph = line.strip()
        if paragraphs and (not paragraph or size >= LONGEST_DOCUMENT):
            yield Document(paragraphs, f"{name}, line {began}")
            paragraphs, size = [], 0
        if paragraph:
            began = began if paragraphs else number
            paragraphs.append(paragraph)
            size += len(paragraph)
    if paragraphs:
        yield Document(paragraphs, f"{name}, line {began}")


def _from_rows(rows: Rows, text: str) -> Iterator[Document]:
    if text != USUAL:
        check_column(rows, text)
    column = text if text in rows.columns else find_text(rows)
    for where, row in rows.located([column]):
        if column not in row:
            raise BothwaysError(f"{where}: there is no {column!r} (columns: {', '.join(row)}){closest(column, row)}")
        value = row[column]
        if not is_missing(value):  # a row without text is a document without paragraphs
            yield _document(value, where)


def _from_items(source: Iterable[Any], text: str) -> Iterator[Document]:
    items = iter(source)
    first = next(items, None)
    if isinstance(first, Mapping):
        yield from _from_rows(read_rows(chain([first], items)), text)
    elif first is not None:
        for number, item in enumerate(chain([first], items), start=1):
            yield item if isinstance(item, Document) else _document(item, f"text {number}")


def _document(value: Any, where: str) -> Document:
    if not isinstance(value, str):
        raise BothwaysError(f"{where}: should be a string, not {type(value).__name__} {value!r:.40}")
    return Document([line.strip() for line in value.split("\n") if line.strip()], where)


def _parts(document: Document) -> Iterator[Document]:
    """The document, in parts when it is very long, none when it is empty."""
    if sum(map(len, document.paragraphs)) <= LONGEST_PARAGRAPH:
        if document.paragraphs:
            yield document
        return
    paragraphs: list[str] = []
    size = 0
    for paragraph in chain.from_iterable(map(_pieces, document.paragraphs)):
        if paragraphs and size + len(paragraph) > LONGEST_DOCUMENT:
            yield Document(paragraphs, document.name)
            paragraphs, size = [], 0
        paragraphs.append(paragraph)
        size += len(paragraph)
    yield Document(paragraphs, document.name)


def _pieces(paragraph: str) -> Iterator[str]:
    while len(paragraph) > LONGEST_PARAGRAPH:
        space = paragraph.rfind(" ", 1, LONGEST_PARAGRAPH)
        space = LONGEST_PARAGRAPH if space < 0 else space
        yield paragraph[:space].rstrip()
        paragraph = paragraph[space:].lstrip()
    if paragraph:
        yield paragraph
