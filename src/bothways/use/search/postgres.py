"""The store on a server: PostgreSQL with pgvector, in transactions, for any number of readers and machines.

The words' index is PostgreSQL's own; BM25 is computed from it in SQL, since PostgreSQL's ranks are of another kind. An
address names the index behind a ``#``: ``postgresql://user@host/database#papers``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.use.search.address import Address, driver
from bothways.use.search.codes import OVERSAMPLED, int8, restored
from bothways.use.search.filters import ID, NUMBER, Compare, Filter, compile_filter
from bothways.use.search.store import APPROXIMATE_FROM, Held, Key, Passage, Scored, Shape

_WIDEST = {"float32": 2_000, "int8": 64_000, "binary": 64_000}  # of what pgvector's indexes take
_SIGNS = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->"}
_OPERATORS = {"cosine": "vector_cosine_ops", "dot": "vector_ip_ops", "euclidean": "vector_l2_ops"}
_PIECE = 4096
_SEARCHED = 200  # candidates that the approximate index keeps on its way (ef_search)

_TABLES = """
CREATE TABLE {name} (document text NOT NULL, number int NOT NULL, text text NOT NULL, metadata jsonb NOT NULL,
    digest text NOT NULL, {numbers},
    words tsvector GENERATED ALWAYS AS (to_tsvector('pg_catalog.{language}', text)) STORED,
    PRIMARY KEY (document, number));
CREATE INDEX ON {name} USING gin (words);
"""
_ABOUT = "CREATE TABLE IF NOT EXISTS bothways_indexes (name text PRIMARY KEY, about jsonb NOT NULL)"
# k1 = 1.2 and b = 0.75; the length of a passage is its number of different words that count
_BM25 = """
WITH asked AS (SELECT unnest(tsvector_to_array(to_tsvector('pg_catalog.{language}', %(words)s))) AS word),
    every AS (SELECT count(*)::float8 AS count, greatest(avg(length(words)), 1)::float8 AS length FROM {name}),
    hits AS (SELECT document, number, word, length(words) AS length,
            cardinality(tsvector_to_array(words)) AS kinds, entry.positions
        FROM {name}, LATERAL unnest(words) AS entry(lexeme, positions, weights) JOIN asked ON lexeme = word
        WHERE words @@ (SELECT string_agg(quote_literal(word), ' | ')::tsquery FROM asked)),
    weights AS (SELECT word, ln(1 + (every.count - count(*) + 0.5) / (count(*) + 0.5)) AS weight
        FROM hits, every GROUP BY word, every.count)
SELECT document, number, sum(weight * 2.2 * cardinality(positions)
        / (cardinality(positions) + 1.2 * (0.25 + 0.75 * hits.length / every.length)))::float8 AS score
    FROM hits JOIN weights USING (word) JOIN {name} USING (document, number), every {where}
    GROUP BY document, number ORDER BY score DESC, document, number LIMIT %(count)s
"""


def open_postgres(url: str) -> PostgresStore | None:
    """The store at an address; None where there is none.

    Raises:
        BothwaysError: The server cannot be reached, or a library is not installed.
    """
    address = Address(url)
    with address.connected() as connection:
        found = connection.execute("SELECT to_regclass('bothways_indexes')").fetchone()
        if found[0] is None:
            return None
        about = connection.execute("SELECT about FROM bothways_indexes WHERE name = %s", [address.name]).fetchone()
    return None if about is None else PostgresStore(address, Shape(**about[0]["shape"]))


def make_postgres(url: str, shape: Shape, settings: Mapping[str, Any], *, overwrite: bool = False) -> PostgresStore:
    """Makes a store; as `bothways.use.search.store.make_store` says."""
    address = Address(url)
    if shape.width > _WIDEST[shape.kind]:
        raise BothwaysError(
            f"pgvector's index takes vectors of at most {_WIDEST[shape.kind]:,} numbers, not {shape.width:,}; "
            "keep them as int8 or binary, or take fewer dimensions"
        )
    numbers = {
        "float32": f"vector vector({shape.width}) NOT NULL",
        "int8": f"signs bit({shape.width}) NOT NULL, codes bytea NOT NULL",
        "binary": f"signs bit({shape.width}) NOT NULL",
    }[shape.kind]
    language = "simple" if shape.language == "none" else shape.language
    with _writing(address), address.connected() as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(_ABOUT)
        there = connection.execute("SELECT 1 FROM bothways_indexes WHERE name = %s", [address.name]).fetchone()
        if there and not overwrite:
            raise BothwaysError(f"{address.shown} is an index already; add to it, or --overwrite")
        connection.execute(f"DROP TABLE IF EXISTS {address.table}")
        connection.execute(_TABLES.format(name=address.table, numbers=numbers, language=language))
        _remember(connection, address.name, shape, settings)
    return PostgresStore(address, shape)


@contextmanager
def _writing(address: Address) -> Iterator[None]:
    with address.connect() as connection:
        connection.autocommit = True
        if not connection.execute("SELECT pg_try_advisory_lock(hashtext(%s))", [address.table]).fetchone()[0]:
            raise BothwaysError(f"another run is writing the index {address.shown}; wait for it")
        yield


def _remember(connection: Any, name: str, shape: Shape, settings: Mapping[str, Any]) -> None:
    about = json.dumps({"shape": asdict(shape), "settings": dict(settings)})
    connection.execute(
        "INSERT INTO bothways_indexes VALUES (%s, %s::jsonb) ON CONFLICT (name) DO UPDATE SET about = excluded.about",
        [name, about],
    )


class PostgresStore:
    """Passages in a table of PostgreSQL's; as `bothways.use.search.store.Store` says.

    Attributes:
        shape: What is kept of a passage.
    """

    def __init__(self, address: Address, shape: Shape) -> None:
        self._address, self.shape = address, shape
        self._table = address.table
        self._connection: Any = None

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """The connection, kept open between questions, made anew if it was lost."""
        psycopg = driver()
        vectors = need("pgvector.psycopg", "postgres", "An index on PostgreSQL")
        if self._connection is None or self._connection.closed:
            self._connection = self._address.connect()
            vectors.register_vector(self._connection)
        try:
            with self._connection.transaction():
                yield self._connection
            if self._connection.info.transaction_status.name != "IDLE":
                self._connection.commit()
        except psycopg.Error as error:
            self._connection.close()
            raise self._address.wrong(error) from error

    def settings(self) -> dict[str, Any]:
        """As `Store.settings` says."""
        with self._transaction() as connection:
            asked = "SELECT about->'settings' FROM bothways_indexes WHERE name = %s"
            found: dict[str, Any] = connection.execute(asked, [self._address.name]).fetchone()[0]
            return found

    def remember(self, settings: Mapping[str, Any]) -> None:
        """As `Store.remember` says."""
        with self._transaction() as connection:
            _remember(connection, self._address.name, self.shape, settings)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """As `Store.writing` says: a lock of the server's, freed when the connection ends."""
        with _writing(self._address):
            yield

    def digests(self, documents: Sequence[str]) -> dict[str, str]:
        """As `Store.digests` says."""
        asked = f"SELECT document, digest FROM {self._table} WHERE number = 0 AND document = ANY(%s)"
        with self._transaction() as connection:
            return dict(connection.execute(asked, [list(documents)]).fetchall())

    def replace(self, documents: Sequence[str], passages: Sequence[Passage], vectors: np.ndarray) -> None:
        """As `Store.replace` says."""
        columns, kinds = self._columns()
        with self._transaction() as connection:
            if documents:
                connection.execute(f"DELETE FROM {self._table} WHERE document = ANY(%s)", [list(documents)])
            asked = (
                f"COPY {self._table} (document, number, text, metadata, digest, {columns}) FROM STDIN (FORMAT BINARY)"
            )
            with connection.cursor().copy(asked) as copy:
                copy.set_types(["text", "int4", "text", "jsonb", "text", *kinds])
                for each, numbers in zip(passages, self._kept(vectors), strict=True):
                    text = each.text.replace("\0", " ")
                    metadata = _json(each.metadata)
                    copy.write_row((each.document, each.number, text, metadata, each.digest, *numbers))

    def _columns(self) -> tuple[str, list[str]]:
        return {
            "float32": ("vector", ["vector"]),
            "int8": ("signs, codes", ["bit", "bytea"]),
            "binary": ("signs", ["bit"]),
        }[self.shape.kind]

    def _kept(self, vectors: np.ndarray) -> Iterator[tuple[Any, ...]]:
        """What is kept of each vector, as pgvector wants it."""
        from pgvector import Bit, Vector

        if self.shape.kind == "float32":
            return ((Vector(row),) for row in vectors)
        bits = (Bit(row > 0) for row in vectors)
        if self.shape.kind == "binary":
            return ((bit,) for bit in bits)
        return ((bit, row.tobytes()) for bit, row in zip(bits, int8(vectors), strict=True))

    def documents(self, where: Filter | None = None) -> Iterator[str]:
        """As `Store.documents` says."""
        values: dict[str, Any] = {}
        condition = _condition(where, values)
        asked = f"SELECT document FROM {self._table} WHERE number = 0 AND {condition} ORDER BY document"
        for rows in self._pieces(asked, values):
            yield from (row[0] for row in rows)

    def nearest(self, query: np.ndarray, count: int, where: Filter | None, *, exact: bool = False) -> list[Scored]:
        """As `Store.nearest` says."""
        from pgvector import Bit, Vector

        again = self.shape.kind != "float32"
        values: dict[str, Any] = {"count": count * OVERSAMPLED[self.shape.kind] if again else count}
        values["query"] = Bit(query > 0) if again else Vector(query)
        column, sign = ("signs", "<~>") if again else ("vector", _SIGNS[self.shape.similarity])
        code = {"float32": "NULL", "int8": "codes", "binary": "signs"}[self.shape.kind]
        asked = f"""SELECT document, number, {column} {sign} %(query)s AS far, {code} FROM {self._table}
            WHERE {_condition(where, values)} ORDER BY far LIMIT %(count)s"""
        with self._transaction() as connection:
            if exact:
                connection.execute("SET LOCAL enable_indexscan = off")
            connection.execute(f"SET LOCAL hnsw.ef_search = {max(_SEARCHED, min(1000, 2 * values['count']))}")
            connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")
            rows = connection.execute(asked, values).fetchall()
        found = [Scored(Key(document, number), _score(self.shape, far)) for document, number, far, _ in rows]
        return self._rescored(found, [row[3] for row in rows], query)[:count] if again and found else found

    def _rescored(self, found: Sequence[Scored], codes: Sequence[Any], query: np.ndarray) -> list[Scored]:
        kind, width = self.shape.kind, self.shape.width
        values = np.stack([_numbers(kind, code) for code in codes])
        scores = restored(kind, values, width) @ query
        order = np.argsort(-scores, kind="stable")
        return [Scored(found[one].key, float(scores[one])) for one in order]

    def matching(self, words: str, count: int, where: Filter | None) -> list[Scored]:
        """As `Store.matching` says."""
        values: dict[str, Any] = {"words": words.replace("\0", " "), "count": count}
        condition = "" if where is None else f"WHERE {_condition(where, values)}"
        language = "simple" if self.shape.language == "none" else self.shape.language
        asked = _BM25.format(name=self._table, language=language, where=condition)
        with self._transaction() as connection:
            rows = connection.execute(asked, values).fetchall()
        return [Scored(Key(document, number), score) for document, number, score in rows]

    def fetch(self, keys: Sequence[Key]) -> dict[Key, Passage]:
        """As `Store.fetch` says."""
        wanted = set(keys)
        asked = f"SELECT document, number, text, metadata, digest FROM {self._table} WHERE document = ANY(%s)"
        with self._transaction() as connection:
            rows = connection.execute(asked, [list({key.document for key in keys})]).fetchall()
        return {key: Passage(*row) for row in rows if (key := Key(row[0], row[1])) in wanted}

    def vectors(self) -> Iterator[tuple[list[Passage], np.ndarray]]:
        """As `Store.vectors` says."""
        kind = self.shape.kind
        column = {"float32": "vector", "int8": "codes", "binary": "signs"}[kind]
        for rows in self._pieces(f"SELECT document, number, text, metadata, digest, {column} FROM {self._table}", {}):
            numbers = np.stack([_numbers(kind, row[5]) for row in rows])
            values = numbers if kind == "float32" else restored(kind, numbers, self.shape.width)
            yield [Passage(*row[:5]) for row in rows], values

    def _pieces(self, asked: str, values: Mapping[str, Any]) -> Iterator[list[Any]]:
        """Rows, some thousands at a time."""
        with self._transaction() as connection, connection.cursor(name="bothways_rows") as cursor:
            cursor.execute(asked, values)
            while rows := cursor.fetchmany(_PIECE):
                yield rows

    def tidy(self) -> None:
        """As `Store.tidy` says."""
        column, kind = ("vector", _OPERATORS[self.shape.similarity])
        if self.shape.kind != "float32":
            column, kind = "signs", "bit_hamming_ops"
        name = f"{self._table}_nearest"
        with self._transaction() as connection:
            rows = connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0]
            if rows >= APPROXIMATE_FROM:
                connection.execute("SET LOCAL maintenance_work_mem = '512MB'")
                connection.execute(f"CREATE INDEX IF NOT EXISTS {name} ON {self._table} USING hnsw ({column} {kind})")
            connection.execute(f"ANALYZE {self._table}")

    def held(self) -> Held:
        """As `Store.held` says."""
        asked = f"""SELECT count(*) FILTER (WHERE number = 0), count(*), pg_total_relation_size('{self._table}'),
            to_regclass('{self._table}_nearest') IS NOT NULL, current_setting('server_version'),
            (SELECT extversion FROM pg_extension WHERE extname = 'vector') FROM {self._table}"""
        with self._transaction() as connection:
            documents, passages, size, indexed, version, pgvector = connection.execute(asked).fetchone()
        engine = f"PostgreSQL {version} with pgvector {pgvector}"
        return Held(documents, passages, size, passages if indexed else 0, engine)


def _json(metadata: Mapping[str, Any]) -> Any:
    from psycopg.types.json import Jsonb

    return Jsonb(json.loads(json.dumps(dict(metadata)).replace("\\u0000", " ")))


def _score(shape: Shape, far: float) -> float:
    return {"cosine": 1 - far, "dot": -far, "euclidean": -far}[shape.similarity]


def _numbers(kind: str, code: Any) -> np.ndarray:
    """What was kept of a vector, as `codes` has it."""
    if kind == "int8":
        return np.frombuffer(code, dtype=np.int8)
    if kind == "binary":
        return np.packbits(np.frombuffer(code.encode(), dtype=np.uint8) == ord("1"))
    return np.asarray(code if isinstance(code, np.ndarray) else code.to_numpy(), dtype=np.float32)


def _condition(where: Filter | None, values: dict[str, Any]) -> str:
    """A filter as a condition; what was typed goes into `values`, never into it."""
    if where is None:
        return "true"

    def add(value: Any) -> str:
        values[f"v{len(values)}"] = value
        return f"%(v{len(values) - 1})s"

    def compared(one: Compare) -> str:
        held = "document" if one.name == ID else f"(metadata->>{add(one.name)})"
        if isinstance(one.value, str):
            return f'coalesce({held} COLLATE "C" {one.operator} {add(one.value)}, false)'
        number = f"CASE WHEN {held} ~ '{NUMBER}' THEN {held}::float8 {one.operator} {add(one.value)} ELSE false END"
        return f"coalesce({number}, false)"

    return compile_filter(where, compared)
