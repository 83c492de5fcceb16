"""Words with their tags, from files of columns, or from rows that hold lists of words or texts with marked parts."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

from bothways.errors import BothwaysError
from bothways.text.columns import check_column, is_missing
from bothways.text.conll import read_conll
from bothways.text.files import check_exists, find_files, is_stdin, kind_of, open_text, shown
from bothways.text.rows import Rows, read_rows, stream_rows
from bothways.text.tables import Located, parse_table
from bothways.text.words import Offsets, joined, word_offsets

WORD_COLUMNS = ("tokens", "words", "token", "text", "sentence")
TAG_COLUMNS = (
    *("tags", "ner_tags", "labels", "label", "ner", "spans", "entities", "annotations"),
    *("upos", "pos_tags", "pos", "chunk_tags", "chunks"),
)
_COLUMN_FILES = (".conll", ".conllu", ".conll03", ".bio", ".iob", ".iob2", ".ner", ".pos")
_SPAN_LABELS = ("label", "type", "tag", "entity")


class TaggedRow(NamedTuple):
    """A text of words with their tags.

    Attributes:
        where: Its place, for messages.
        text: As it stood there; words that were given as a list with single spaces between them.
        offsets: Where its words stand.
        tags: A tag a word.
        marked: Whether tags were made from marked parts of the text, in the scheme BIO.
    """

    where: str
    text: str
    offsets: Offsets
    tags: list[str]
    marked: bool


def read_tagged(
    source: Any, text: str | None = None, label: str | None = None, *, expand: bool = False
) -> tuple[str, Iterator[TaggedRow]]:
    """Reads texts whose words have tags; texts without words are left out.

    Args:
        source: A file of columns (CoNLL 2000, 2003, U), a table as `read_rows` takes them, or several files. Rows hold
            lists of words and tags, or a text and parts of it: ``{"start": 10, "end": 15, "label": "LOC"}`` or
            ``[10, 15, "LOC"]``, in characters.
        text: The column of the words, or of the text; found by its name when not given.
        label: The column of the tags, or of the parts; found by its name when not given.
        expand: Whether parts that end inside words are widened to whole ones.

    Returns:
        What the source is called, and its rows.

    Raises:
        BothwaysError: A file or column is missing; and while reading, a row is wrong in any way.
    """
    if isinstance(source, str | Path):
        paths = _files(source)
    elif isinstance(source, list | tuple) and source and all(isinstance(entry, str | Path) for entry in source):
        paths = [path for entry in source for path in _files(entry)]
    else:
        rows = read_rows(source)
        return rows.name, _from_rows(rows, text, label, expand, _class_names(source))
    name = shown(source if isinstance(source, str | Path) else source[0])
    return name, chain.from_iterable(_from_file(path, text, label, expand) for path in paths)


def _files(source: str | Path) -> list[str | Path]:
    if is_stdin(source) or not Path(source).is_dir():
        if not is_stdin(source):
            check_exists(Path(source))
        return [source]
    columns = sorted(path for path in Path(source).rglob("*") if path.suffix in _COLUMN_FILES)
    return list(columns) or find_files(source)


def _from_file(path: str | Path, text: str | None, label: str | None, expand: bool) -> Iterator[TaggedRow]:
    name = shown(path)
    if kind_of(path) in ("parquet", "csv"):
        yield from _from_rows(read_rows(path), text, label, expand, {})
        return
    with open_text(path) as lines:
        first = next(((number, line) for number, line in lines if line.strip()), None)
        if first is None:
            raise BothwaysError(f"{name} holds only blank lines")
        lines = chain([first], lines)
        if kind_of(path) == "jsonl" or first[1].lstrip().startswith("{"):
            rows = stream_rows(parse_table(lines, name, "jsonl"), name)
            yield from _from_rows(rows, text, label, expand, {})
            return
        for where, words, tags in read_conll(lines, name, label):
            yield TaggedRow(where, *joined(words), tags, False)


def _from_rows(
    rows: Rows, text: str | None, label: str | None, expand: bool, names: Mapping[str, Sequence[str]]
) -> Iterator[TaggedRow]:
    word_column = _column(rows, text, WORD_COLUMNS, "words", "text")
    tag_column = _column(rows, label, TAG_COLUMNS, "tags", "label")
    classes = names.get(tag_column)
    for located in rows.located([word_column, tag_column]):
        row = _row(located, word_column, tag_column, expand, classes)
        if row.offsets:
            yield row


def _column(rows: Rows, given: str | None, usual: Sequence[str], what: str, option: str) -> str:
    check_column(rows, given)
    found = given or next((name for name in usual if name in rows.columns), None)
    if found is None:
        raise BothwaysError(
            f"it is not clear which column of {rows.name} holds the {what} (columns: {', '.join(rows.columns)}); name "
            f"it with --{option} (in Python {option}=...)"
        )
    return found


def _row(located: Located, word_column: str, tag_column: str, expand: bool, names: Sequence[str] | None) -> TaggedRow:
    where, row = located
    words, tags = row.get(word_column), row.get(tag_column)
    for column, value in ((word_column, words), (tag_column, tags)):
        if is_missing(value):
            raise BothwaysError(f"{where}: there is nothing in the column {column!r}")
    if isinstance(words, str):
        offsets = word_offsets(words)
        spans = _spans(_listed(tags, where, tag_column), words, f"{where}, column {tag_column!r}")
        return TaggedRow(where, words, offsets, mark_words(words, offsets, spans, where, expand=expand), True)
    words, tags = _listed(words, where, word_column), _listed(tags, where, tag_column)
    wrong = next((place for place, word in enumerate(words) if not isinstance(word, str)), None)
    if wrong is not None:
        raise BothwaysError(
            f"{where}: word {wrong + 1} in the column {word_column!r} is no text but {words[wrong]!r:.40}"
        )
    if len(words) != len(tags):
        raise BothwaysError(f"{where}: {len(words)} words but {len(tags)} tags; each word needs one")
    missing = next((place for place, tag in enumerate(tags) if is_missing(tag) or tag == ""), None)
    if missing is not None:
        raise BothwaysError(f"{where}: word {missing + 1} ({words[missing]!r}) has no tag in the column {tag_column!r}")
    return TaggedRow(where, *joined(words), [_name(tag, names) for tag in tags], False)


def _listed(value: Any, where: str, column: str) -> list[Any]:
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        raise BothwaysError(
            f"{where}: the column {column!r} should hold a list, an entry a word, not {type(value).__name__} "
            f"{value!r:.40}"
        )
    return list(value)


def _name(tag: Any, names: Sequence[str] | None) -> str:
    if names is not None and not isinstance(tag, str) and 0 <= tag < len(names):
        return str(names[tag])
    return str(tag)


def _class_names(source: Any) -> dict[str, Sequence[str]]:
    """The names of numbered tags, where a data set has them."""
    found = {}
    for column, feature in (getattr(source, "features", None) or {}).items():
        names = getattr(getattr(feature, "feature", None), "names", None)
        if names:
            found[column] = names
    return found


def _spans(parts: list[Any], text: str, where: str) -> list[tuple[int, int, str]]:
    """Marked parts in their order, checked; white space at their ends left out."""
    found = []
    for number, part in enumerate(parts, start=1):
        start, end, label = _part(part, f"{where}, part {number}")
        if not 0 <= start < end <= len(text) or not text[start:end].strip():
            raise BothwaysError(
                f"{where}, part {number}: characters {start} to {end} hold nothing of a text of {len(text)} characters"
                "; count from 0, the end behind the last"
            )
        inner = text[start:end]
        found.append((start + len(inner) - len(inner.lstrip()), end - len(inner) + len(inner.rstrip()), label))
    return sorted(found)


def _part(part: Any, where: str) -> tuple[int, int, str]:
    if isinstance(part, Mapping):
        label = next((part[key] for key in _SPAN_LABELS if key in part), None)
        values: tuple[Any, ...] = (part.get("start"), part.get("end"), label)
    elif isinstance(part, list | tuple) and len(part) == 3:
        values = tuple(part)
    else:
        values = (None,) * 3
    start, end, label = values
    if not isinstance(start, Integral) or not isinstance(end, Integral) or not isinstance(label, str) or not label:
        raise BothwaysError(
            f'{where}: should be {{"start": 0, "end": 5, "label": "PER"}} or [0, 5, "PER"], not {part!r:.60}'
        )
    return int(start), int(end), label


def mark_words(
    text: str, offsets: Offsets, spans: Sequence[tuple[int, int, str]], where: str, *, expand: bool = False
) -> list[str]:
    """Tags, in the scheme BIO, for the words that lie in marked parts of a text.

    Args:
        text: The text.
        offsets: Where its words stand.
        spans: Beginning, end and label of each part, in order.
        where: The text's place, for messages.
        expand: Whether parts that end inside words are widened to whole ones.

    Raises:
        BothwaysError: A part ends inside a word (the sentence says which words it may mean), or two overlap.
    """
    starts, ends = [start for start, _ in offsets], [end for _, end in offsets]
    tags = ["O"] * len(offsets)
    for start, end, label in spans:
        first = bisect.bisect_right(ends, start)
        last = bisect.bisect_left(starts, end) - 1
        if not expand and (starts[first], ends[last]) != (start, end):
            raise _unmatched(text, (start, end, label), (starts[first], ends[last]), where)
        if any(tag != "O" for tag in tags[first : last + 1]):
            raise BothwaysError(
                f"{where}: {text[start:end]!r} ({label}) overlaps the part before it; a word has one tag, keep one"
            )
        tags[first : last + 1] = [f"B-{label}", *[f"I-{label}"] * (last - first)]
    return tags


def _unmatched(text: str, span: tuple[int, int, str], whole: tuple[int, int], where: str) -> BothwaysError:
    start, end, label = span
    return BothwaysError(
        f"{where}: {text[start:end]!r} ({label}, characters {start} to {end}) ends inside a word; the nearest whole "
        f"words are {text[whole[0] : whole[1]]!r} ({whole[0]} to {whole[1]}): mend it, or say "
        "--align expand (in Python align='expand') to widen all such"
    )
