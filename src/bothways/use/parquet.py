"""Parquet from a draft: pieces that know their own types, and at the end the types that hold all of them.

A Parquet file that was not ended cannot be gone on with, and its types cannot change once it is begun; a row that comes
late may hold a fraction where all before were whole numbers, or a key that none had. So the draft is a row of Arrow's
streams, one a piece.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bothways.progress import say
from bothways.text.tables import without_halves

_MIXED = {b"bothways": b"mixed"}
"""Stands with a column of a piece whose values had no type in common."""


class Parquet:
    """A Parquet file, a row group a piece; vectors are lists of fixed length.

    Whole numbers become fractions where there are fractions, and keys that only some rows have are null in the others.
    A column whose values have nothing in common becomes text, as JSON writes it.
    """

    def go_on(self, draft: Path) -> None:
        """Nothing depends on what was before."""

    def piece(self, columns: Any) -> bytes:
        """As `Format.piece` says."""
        import pyarrow

        made = [_column(values) for values in columns.values()]
        fields = [
            pyarrow.field(name, values.type, metadata=_MIXED if mixed else None)
            for name, (values, mixed) in zip(columns, made, strict=True)
        ]
        batch = pyarrow.record_batch([values for values, _ in made], schema=pyarrow.schema(fields))
        written = io.BytesIO()
        with pyarrow.ipc.new_stream(written, batch.schema) as stream:
            stream.write_batch(batch)
        return written.getvalue()

    def finish(self, draft: Path, rows: int) -> Path:
        """As `Format.finish` says."""
        import pyarrow
        from pyarrow import parquet

        made = draft.with_name(f"{draft.name}.parquet")
        with pyarrow.OSFile(str(draft)) as file:
            schema = _schema(file)
            with parquet.ParquetWriter(made, schema) as writer:
                for batch in _batches(file):
                    values = [_as(batch.column(field.name), field.type) for field in schema]
                    writer.write_batch(pyarrow.record_batch(values, schema=schema))
        return made


def _column(values: Any) -> tuple[Any, bool]:
    """A column of a piece as Arrow holds it, and whether that had to be as text."""
    import pyarrow

    if isinstance(values, np.ndarray) and values.ndim == 2:
        return pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(np.ravel(values)), values.shape[1]), False
    try:
        return pyarrow.array(values), False
    except UnicodeEncodeError:
        return _column(without_halves(list(values)))
    except (pyarrow.ArrowException, OverflowError, TypeError, ValueError):
        return pyarrow.array([_text(value) for value in values], pyarrow.string()), True


def _batches(file: Any) -> Iterator[Any]:
    """The pieces of a draft."""
    import pyarrow

    file.seek(0)
    while file.tell() < file.size():
        with pyarrow.ipc.open_stream(file) as stream:
            yield from stream


def _schema(file: Any) -> Any:
    """The types that hold what all pieces hold; says which columns become text."""
    import pyarrow

    kinds: dict[str, Any] = {}
    mixed: set[str] = set()
    for batch in _batches(file):
        for field in batch.schema:
            kind = _common(kinds.get(field.name, pyarrow.null()), field.type)
            if kind is None or field.metadata == _MIXED:
                mixed.add(field.name)
            kinds[field.name] = pyarrow.string() if kind is None else kind
    kinds = {name: _stored(kind) for name, kind in kinds.items()}
    for batch in _batches(file):
        for name, kind in kinds.items():
            if not _fits(batch.column(name), kind):
                mixed.add(name)
                kinds[name] = pyarrow.string()
    if mixed:
        names = ", ".join(repr(name) for name in sorted(mixed))
        say(f"Parquet has one type a column: as text stand those of {names}, which hold values of several types")
    return pyarrow.schema(list(kinds.items()))


def _common(one: Any, other: Any) -> Any:
    """The type that holds the values of both; None where there is none but text."""
    import pyarrow

    if one.equals(other):
        return one
    schemas = [pyarrow.schema([("", kind)]) for kind in (one, other)]
    try:
        return pyarrow.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pyarrow.ArrowException:
        return None


def _stored(kind: Any) -> Any:
    """The type as files and their readers know it: text where nothing is known of it."""
    import pyarrow

    if pyarrow.types.is_null(kind):
        return pyarrow.string()
    if pyarrow.types.is_list(kind):
        return pyarrow.list_(_stored(kind.value_type))
    if pyarrow.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return pyarrow.struct([(field.name, _stored(field.type)) for field in fields]) if fields else pyarrow.string()
    return kind


def _fits(values: Any, kind: Any) -> bool:
    """Whether values can be of a type without loss; all can be text."""
    import pyarrow

    if values.type.equals(kind) or pyarrow.types.is_string(kind):
        return True
    try:
        values.cast(kind)
    except (pyarrow.ArrowException, ValueError):
        return False
    return True


def _as(values: Any, kind: Any) -> Any:
    """The values, of a type that holds them."""
    import pyarrow

    if pyarrow.types.is_string(kind) and not pyarrow.types.is_string(values.type):
        return pyarrow.array([_text(value) for value in values.to_pylist()], kind)
    return values.cast(kind)


def _text(value: Any) -> str | None:
    """A value of any type as text."""
    if value is None or isinstance(value, str):
        return value
    plain = isinstance(value, bool | int | float | list | tuple | dict)
    return json.dumps(value, ensure_ascii=False, default=str) if plain else str(value)
