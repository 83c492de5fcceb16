"""What the tests of search share: documents, a store of each kind."""

from contextlib import suppress

import numpy as np

import tiny
from bothways.use.search.memory import MemoryStore
from bothways.use.search.store import Passage, Shape, make_store

WIDTH = 64
TOPICS = ("it's new", "old", "new")


def rows(count=120, seed=5):
    """Documents with metadata as a table brings them: numbers, texts that look like numbers, quotes, gaps."""
    found = []
    for place, text in enumerate(tiny.sentences(count, seed=seed)):
        row = {"id": f"n'{place}", "text": text, "year": 1990 + place % 20, "topic": TOPICS[place % 3]}
        if place % 2:
            row["year"] = str(row["year"])
        if place % 5 == 0:
            del row["topic"]
        found.append(row)
    return found


def passages(count=200):
    """Passages, two a document, with random vectors around a few middles: ``(passages, WIDTH)`` float32."""
    draw = np.random.default_rng(7)
    middles = draw.normal(size=(8, WIDTH))
    vectors = middles[draw.integers(0, 8, count)] + 0.6 * draw.normal(size=(count, WIDTH))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    texts = tiny.sentences(count, seed=11)
    table = rows(count // 2)
    found = []
    for place, text in enumerate(texts):
        row = table[place // 2]
        metadata = {name: value for name, value in row.items() if name not in ("id", "text")}
        found.append(Passage(row["id"], place % 2, text, metadata, f"digest {place // 2}"))
    return found, vectors


def store(place, kind="float32", **shape):
    """An empty store; `place` is a folder, an address, or None for one in memory."""
    made = Shape(WIDTH, kind, **shape)
    settings = {"identity": "x", "fields": ["year", "topic"]}
    return MemoryStore(made, settings) if place is None else make_store(place, made, settings, overwrite=True)


def close(made):
    """Ends a store's connection, if it has one."""
    with suppress(AttributeError):
        made._connection.close()
