"""The embedded store: LanceDB, files in a folder or in a store of objects, without a server.

Each change is one new version of the table, whole or not there; who reads meanwhile stays on the version before it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.run.files import locked
from bothways.use.search.arrow_rows import as_table, matrix, passage_of, schema_of
from bothways.use.search.codes import OVERSAMPLED, restored, signs
from bothways.use.search.filters import ID, NUMBER, Compare, Filter, compile_filter
from bothways.use.search.store import APPROXIMATE_FROM, Held, Key, Passage, Scored, Shape, is_url

TABLE, ABOUT = "passages", "about"
_METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2"}
_OLD = timedelta(minutes=5)
"""Versions this old are removed: no question takes so long."""
_PIECE = 4096
_FINE = 20
"""How many times as many neighbours as are wanted the approximate index is asked for, then compared exactly."""


def open_lance(place: str) -> LanceStore | None:
    """The store in a folder; None where there is none.

    Raises:
        BothwaysError: The folder is a file, cannot be read, or LanceDB is not installed.
    """
    path = Path(place)
    if not is_url(place) and not path.is_dir():
        if path.exists():
            raise BothwaysError(f"{place} is a file, not an index")
        return None
    with _told(place):
        database = _connected(place)
        if not {TABLE, ABOUT} <= set(_names(database)):
            return None
        return LanceStore(place, database)


def make_lance(place: str, shape: Shape, settings: Mapping[str, Any], *, overwrite: bool = False) -> LanceStore:
    """Makes a store; as `bothways.use.search.store.make_store` says."""
    path = Path(place)
    if not is_url(place) and path.exists() and (not path.is_dir() or any(_foreign(path))):
        raise BothwaysError(f"{place} is there already and is not an index; choose another name")
    with _told(place):
        database = _connected(place)
        with _writing(place):
            if TABLE in _names(database) and ABOUT in _names(database) and not overwrite:
                raise BothwaysError(f"{place} is an index already; add to it, or --overwrite")
            database.create_table(TABLE, schema=schema_of(shape), mode="overwrite")
            _write_about(database, shape, settings)
        return LanceStore(place, database)


def _foreign(path: Path) -> Iterator[Path]:
    return (each for each in path.iterdir() if not each.name.startswith(".") and each.suffix != ".lance")


def _library() -> Any:
    os.environ.setdefault("LANCEDB_LOG", "error")  # else it warns of every table that it makes
    return need("lancedb", "search", "An index in a folder")


def _connected(place: str) -> Any:
    return _library().connect(place, read_consistency_interval=timedelta(0))


def _names(database: Any) -> list[str]:
    return list(database.list_tables().tables)


def _write_about(database: Any, shape: Shape, settings: Mapping[str, Any]) -> None:
    text = json.dumps({"shape": asdict(shape), "settings": dict(settings)}, ensure_ascii=False)
    database.create_table(ABOUT, [{"about": text}], mode="overwrite")


@contextmanager
def _writing(place: str) -> Iterator[None]:
    if is_url(place):
        yield
        return
    with locked(Path(place) / ".lock") as free:
        if not free:
            raise BothwaysError(f"another run is writing the index {place}; wait for it")
        yield


class LanceStore:
    """Passages in a table of LanceDB's; as `bothways.use.search.store.Store` says.

    Attributes:
        shape: What is kept of a passage.
    """

    def __init__(self, place: str, database: Any) -> None:
        self._place, self._database = place, database
        self.shape = Shape(**self._about()["shape"])
        self._table = database.open_table(TABLE)
        self._indexes: set[str] | None = None

    def _about(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._database.open_table(ABOUT).to_arrow()["about"][0].as_py())
        return found

    def settings(self) -> dict[str, Any]:
        """As `Store.settings` says."""
        with _told(self._place):
            return dict(self._about()["settings"])

    def remember(self, settings: Mapping[str, Any]) -> None:
        """As `Store.remember` says."""
        with _told(self._place):
            _write_about(self._database, self.shape, settings)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `Store.writing` says; of a store of objects nothing keeps a second writer away."""
        with _writing(self._place):
            yield

    def digests(self, documents: Sequence[str]) -> dict[str, str]:
        """As `Store.digests` says."""
        if not documents:
            return {}
        rows = self._rows(f"number = 0 AND {_among(documents)}", ["document", "digest"])
        return {row["document"]: row["digest"] for batch in rows for row in batch.to_pylist()}

    def replace(self, documents: Sequence[str], passages: Sequence[Passage], vectors: np.ndarray) -> None:
        """As `Store.replace` says."""
        with _told(self._place):
            if not passages:
                if documents:
                    self._table.delete(_among(documents))
                return
            rows = as_table(self.shape, passages, vectors)
            if documents:
                merge = self._table.merge_insert(["document", "number"])
                merge = merge.when_matched_update_all().when_not_matched_insert_all()
                merge.when_not_matched_by_source_delete(_among(documents)).execute(rows)
            else:
                self._table.add(rows)
            self._make_words()

    def documents(self, where: Filter | None = None) -> Iterator[str]:
        """As `Store.documents` says."""
        condition = "number = 0" + (f" AND {_condition(where)}" if where else "")
        for batch in self._rows(condition, ["document"]):
            yield from batch["document"].to_pylist()

    def nearest(self, query: np.ndarray, count: int, where: Filter | None, *, exact: bool = False) -> list[Scored]:
        """As `Store.nearest` says."""
        kind = self.shape.kind
        with _told(self._place):
            if kind != "float32":
                return self._rescored(query, count, where, exact)
            asked = self._table.search(query, vector_column_name="vector")
            asked = asked.distance_type(_METRICS[self.shape.similarity])
            asked = asked.bypass_vector_index() if exact else asked.refine_factor(_FINE)
            rows = _filtered(asked, where).limit(count).select(["document", "number", "_distance"]).to_list()
            sign = 1.0 if self.shape.similarity != "euclidean" else 0.0
            return [Scored(Key(row["document"], row["number"]), sign - row["_distance"]) for row in rows]

    def _rescored(self, query: np.ndarray, count: int, where: Filter | None, exact: bool) -> list[Scored]:
        """The nearest by their signs, in the order of their scores against the whole query."""
        kind, codes = self.shape.kind, "codes" if self.shape.kind == "int8" else "signs"
        asked = self._table.search(signs(query[None])[0], vector_column_name="signs").distance_type("hamming")
        asked = asked.bypass_vector_index() if exact else asked
        wanted = ["document", "number", codes, "_distance"]
        found = _filtered(asked, where).limit(count * OVERSAMPLED[kind]).select(wanted).to_arrow()
        if not len(found):
            return []
        scores = restored(kind, matrix(found[codes]), self.shape.width) @ query
        best = np.argsort(-scores, kind="stable")[:count]
        documents, numbers = found["document"].to_pylist(), found["number"].to_pylist()
        return [Scored(Key(documents[one], numbers[one]), float(scores[one])) for one in best]

    def matching(self, words: str, count: int, where: Filter | None) -> list[Scored]:
        """As `Store.matching` says."""
        from lancedb import query

        if not self._table.count_rows():
            return []
        asked_words: Any = query.MatchQuery(words, "text")  # type: ignore[call-arg]  # what is left out has defaults
        with _told(self._place):
            asked = _filtered(self._table.search(asked_words, query_type="fts"), where)
            rows = asked.limit(count).select(["document", "number", "_score"]).to_list()
        return [Scored(Key(row["document"], row["number"]), row["_score"]) for row in rows]

    def fetch(self, keys: Sequence[Key]) -> dict[Key, Passage]:
        """As `Store.fetch` says."""
        if not keys:
            return {}
        wanted, columns = set(keys), ["document", "number", "text", "metadata", "digest"]
        rows = self._rows(_among({key.document for key in keys}), columns)
        found = (passage_of(row) for batch in rows for row in batch.to_pylist())
        return {key: each for each in found if (key := Key(each.document, each.number)) in wanted}

    def vectors(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """As `Store.vectors` says."""
        kind = self.shape.kind
        column = {"float32": "vector", "int8": "codes", "binary": "signs"}[kind]
        for batch in self._rows(None, ["document", "number", "text", "metadata", "digest", column]):
            numbers = matrix(batch[column])
            values = numbers if kind == "float32" else restored(kind, numbers, self.shape.width)
            yield [passage_of(row) for row in batch.drop_columns([column]).to_pylist()], values

    def tidy(self) -> None:
        """As `Store.tidy` says."""
        with _told(self._place):
            rows = self._table.count_rows()
            if rows >= APPROXIMATE_FROM:
                self._make_index(rows)
            self._table.optimize(cleanup_older_than=_OLD)

    def held(self) -> Held:
        """As `Store.held` says."""
        folder = None if is_url(self._place) else Path(self._place)
        size = None if folder is None else sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
        rows, documents = self._table.count_rows(), self._table.count_rows("number = 0")
        indexed = 0
        if index := next((each for each in self._table.list_indices() if each.columns[0] in ("vector", "signs")), None):
            stats = self._table.index_stats(index.name)
            indexed = stats.num_indexed_rows if stats else 0
        return Held(documents, rows, size, indexed, f"LanceDB {_library().__version__}")

    def _make_words(self) -> None:
        """Makes the index of words when there are first words; what is written later is found too, if slower."""
        from lancedb.index import FTS

        if "text" in self._indexed():
            return
        plain = self.shape.language == "none"
        how = FTS(
            with_position=False,
            stem=not plain,
            remove_stop_words=not plain,
            language="English" if plain else self.shape.language.capitalize(),
        )
        self._table.create_index("text", config=how)
        self._indexes = None

    def _make_index(self, rows: int) -> None:
        """Makes the indexes of a large table: of vectors, and of documents."""
        from lancedb.index import BTree, IvfFlat, IvfHnswSq

        column = "vector" if self.shape.kind == "float32" else "signs"
        if column not in self._indexed():
            metric: Any = _METRICS[self.shape.similarity]
            how: Any = IvfHnswSq(distance_type=metric, num_partitions=max(1, rows >> 20))
            if column == "signs":
                how = IvfFlat(distance_type="hamming", num_partitions=max(1, rows >> 16))
            self._table.create_index(column, config=how)
        if "document" not in self._indexed():
            self._table.create_index("document", config=BTree())
        self._indexes = None

    def _indexed(self) -> set[str]:
        if self._indexes is None:
            self._indexes = {each.columns[0] for each in self._table.list_indices()}
        return self._indexes

    def _rows(self, condition: str | None, columns: list[str]) -> Iterator[Any]:
        """Rows as tables of Arrow's, some thousands at a time."""
        import pyarrow as pa

        with _told(self._place):
            asked = self._table.search()
            asked = asked.where(condition) if condition else asked
            for batch in asked.select(columns).to_batches(_PIECE):
                yield pa.Table.from_batches([batch])


def _filtered(asked: Any, where: Filter | None) -> Any:
    return asked if where is None else asked.where(_condition(where), prefilter=True)


def _condition(where: Filter) -> str:
    return compile_filter(where, _compared)


def _compared(one: Compare) -> str:
    held = "document" if one.name == ID else _held(_quoted(one.name))
    if isinstance(one.value, str):
        return f"coalesce({held} {one.operator} {_quoted(one.value)}, false)"
    number = f"try_cast(regexp_replace({held}, '\\s', '', 'g') AS double)"
    return f"coalesce(regexp_like({held}, '{NUMBER}') AND {number} {one.operator} {one.value!r}, false)"


def _held(name: str) -> str:
    """What the metadata hold under a name, as text; lists and objects as JSON, which `json_get_string` fails at."""
    found = f"json_extract(json_get(metadata, {name}), '$')"
    return f"(CASE WHEN left({found}, 1) IN ('[', '{{') THEN {found} ELSE json_get_string(metadata, {name}) END)"


def _among(documents: Sequence[str] | set[str]) -> str:
    return f"document IN ({', '.join(map(_quoted, documents))})"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Tells what LanceDB says against a place in a sentence; its errors are Python's own."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split()).split(", /")[0]
        raise BothwaysError(f"the index {place} cannot be used ({reason:.300})") from error
