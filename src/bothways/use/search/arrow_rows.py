"""Passages as rows of Arrow's tables, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bothways.use.search.codes import int8, signs
from bothways.use.search.store import Passage, Shape


def schema_of(shape: Shape) -> Any:
    """The columns of a table that keeps what a shape says."""
    import pyarrow as pa

    numbers = {
        "float32": [("vector", pa.float32(), shape.width)],
        "int8": [("codes", pa.int8(), shape.width), ("signs", pa.uint8(), -(-shape.width // 8))],
        "binary": [("signs", pa.uint8(), -(-shape.width // 8))],
    }[shape.kind]
    texts = [("document", pa.string()), ("number", pa.int32()), ("text", pa.string())]
    beside = [("metadata", pa.json_()), ("digest", pa.string())]
    return pa.schema([*texts, *beside, *((name, pa.list_(kind, size)) for name, kind, size in numbers)])


def as_table(shape: Shape, passages: Sequence[Passage], vectors: np.ndarray) -> Any:
    """Passages with their vectors as a table."""
    import pyarrow as pa

    schema = schema_of(shape)
    kept = {"vector": np.asarray(vectors, dtype=np.float32)}
    if shape.kind != "float32":
        kept = {"codes": int8(vectors), "signs": signs(vectors)}
    columns: dict[str, Any] = {
        "document": [each.document for each in passages],
        "number": [each.number for each in passages],
        "text": [each.text for each in passages],
        "metadata": pa.array([json.dumps(dict(each.metadata), ensure_ascii=False) for each in passages]),
        "digest": [each.digest for each in passages],
    }
    columns["metadata"] = columns["metadata"].cast(pa.json_())
    for name in schema.names[len(columns) :]:
        flat = pa.array(kept[name].reshape(-1), schema.field(name).type.value_type)
        columns[name] = pa.FixedSizeListArray.from_arrays(flat, schema.field(name).type.list_size)
    return pa.table(columns, schema=schema)


def matrix(column: Any) -> np.ndarray:
    """A column of lists of one length as an array."""
    rows = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    rows = rows.chunk(0) if hasattr(rows, "chunk") else rows
    return np.asarray(rows.flatten().to_numpy().reshape(len(rows), -1))


def passage_of(row: Mapping[str, Any]) -> Passage:
    """A row as a passage."""
    return Passage(row["document"], row["number"], row["text"], json.loads(row["metadata"]), row["digest"])
