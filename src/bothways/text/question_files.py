"""Where questions come from: JSON files of one object, or of one a line, and tables; object by object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.text.files import find_files, is_stdin, kind_of, open_text, shown
from bothways.text.rows import are_files, read_rows
from bothways.text.tables import Located, Row, parse_json


def name_of(source: Any) -> str:
    """What a source is called in messages."""
    if isinstance(source, list | tuple) and source and are_files(source):
        return shown(source[0])
    return shown(source) if isinstance(source, str | Path) else "the data"


def read_objects(source: Any) -> Iterator[tuple[str, Row, Path | None]]:
    """The objects of a source with their places, for messages, and the folder they lie in.

    Args:
        source: A file, a folder, a list of files, a dict as a file of SQuAD holds it, or rows of any kind.

    Raises:
        BothwaysError: A file is missing, or is no JSON: which, and where.
    """
    if isinstance(source, str | Path):
        source = [source]
    elif isinstance(source, Mapping) and any(isinstance(source.get(key), list) for key in ("data", "Data")):
        yield "the dict", dict(source), None
        return
    elif not (isinstance(source, list | tuple) and are_files(source)):
        yield from ((where, row, None) for where, row in read_rows(source).located())
        return
    for path in (path for given in source for path in find_files(given)):
        rows = _json_objects(path) if kind_of(path) == "jsonl" else read_rows(path).located()
        yield from ((where, row, None if is_stdin(path) else Path(path).parent) for where, row in rows)


def _json_objects(path: str | Path) -> Iterator[Located]:
    """The objects of a file: one a line, a single one over all lines, or a list of them."""
    name = shown(path)
    with open_text(path) as lines:
        number, first = next(((number, line) for number, line in lines if line.strip()), (0, ""))
        try:
            begun = parse_json(first)
        except (ValueError, RecursionError):
            begun = None
        if isinstance(begun, dict):
            yield f"{name}, line {number}", begun
            for number, line in lines:
                if line.strip():
                    yield (
                        f"{name}, line {number}",
                        _object(_parsed(line, f"{name}, line {number}"), f"{name}, line {number}"),
                    )
            return
        whole = _parsed("\n".join([first, *(line for _, line in lines)]), name)
    if isinstance(whole, list):
        yield from (
            (f"{name}, row {place}", _object(one, f"{name}, row {place}")) for place, one in enumerate(whole, 1)
        )
    else:
        yield name, _object(whole, name)


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except (ValueError, RecursionError) as error:
        raise BothwaysError(f"{where}: not JSON ({error}); write one object, or one object a line") from None


def _object(found: Any, where: str) -> Row:
    if not isinstance(found, dict):
        raise BothwaysError(f"{where}: should be a JSON object, not {type(found).__name__}")
    return found
