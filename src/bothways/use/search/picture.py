"""The documents of an index as points of a picture: who is near in meaning is near on the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bothways.chance import derived_seed, generator
from bothways.errors import BothwaysError, closest
from bothways.paths import as_path
from bothways.progress import progress, say
from bothways.report.map_page import write_map
from bothways.report.writing import check_page
from bothways.use.search.index import Index
from bothways.use.search.topics import cluster
from bothways.use.search.whole import Whole, read_whole

LANDMARKS = 10_000
"""Documents that t-SNE places itself; the others stand among their nearest of these."""
_NEIGHBOURS = 5
_WIDTH = 50
_GROUPS = 12
"""Colours, at most, of what the metadata say."""


@dataclass(frozen=True)
class Map:
    """A picture.

    Attributes:
        out: The page.
        documents: How many documents are on it.
        kept: The share of each document's ten nearest neighbours that are among its fifty nearest on the page.
    """

    out: str
    documents: int
    kept: float


def draw_map(
    index: Index,
    out: str | Path,
    *,
    color: str | None = None,
    topics: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Map:
    """Draws a map of an index as one HTML page, which can be zoomed and searched and needs nothing else.

    Places are found by t-SNE (van der Maaten and Hinton 2008) on 50 principal components.

    Args:
        index: The index.
        out: The page, a ``.html`` file.
        color: A name of the metadata that gives points their colours; None colours by topics.
        topics: How many topics, for their colours; None as in `cluster`.
        seed: Of the topics and of what is placed first.
        overwrite: Whether a file of that name is replaced.

    Raises:
        BothwaysError: The index holds too few documents, the metadata has no such name, or the page cannot be written.
    """
    path = as_path(out)
    check_page(path, overwrite)
    fields = index.settings.fields
    if color is not None and color not in fields:
        raise BothwaysError(f"no document says {color!r}; there are {', '.join(fields)}{closest(color, fields)}")
    whole = read_whole(index)
    count = len(whole.documents)
    if count < _NEIGHBOURS:
        raise BothwaysError(f"{count} documents are too few for a map")
    places_N2 = _placed(whole.vectors, seed)
    names, groups_N = _topics(index, whole, topics, seed) if color is None else _named(whole, color)
    data = {
        "title": f"{count:,} documents by meaning",
        "place": index.place or "",
        "points": [[round(float(x), 4), round(float(y), 4)] for x, y in places_N2],
        "groups": groups_N.tolist(),
        "names": names,
        "documents": whole.documents,
        "texts": [" ".join(text.split())[:240] for text in whole.texts],
    }
    write_map(path, data)
    return Map(str(path), count, _kept(whole.vectors, places_N2, seed))


def _placed(vectors_NE: np.ndarray, seed: int) -> np.ndarray:
    """``(N, 2)`` between -1 and 1."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    count = len(vectors_NE)
    width = min(_WIDTH, *vectors_NE.shape)
    narrow_NW = PCA(width, random_state=0).fit_transform(vectors_NE)
    order = generator("map", seed).permutation(count)
    some, others = np.sort(order[:LANDMARKS]), np.sort(order[LANDMARKS:])
    if len(others):
        say(f"{LANDMARKS:,} of {count:,} documents are placed by t-SNE, the others among those nearest to them")
    with progress("Drawing", count, "documents") as job:
        drawn = derived_seed("t-SNE", seed) % 2**32
        how = TSNE(init="pca", perplexity=min(30.0, (len(some) - 1) / 3), random_state=drawn)
        places_N2 = np.zeros((count, 2))
        places_N2[some] = how.fit_transform(narrow_NW[some])
        job.reach(len(some))
        for begin in range(0, len(others), 1024):
            part = others[begin : begin + 1024]
            cosines = vectors_NE[part] @ vectors_NE[some].T
            near = np.argpartition(-cosines, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]
            weights = np.exp(20 * np.take_along_axis(cosines, near, 1))
            weights /= weights.sum(1, keepdims=True)
            places_N2[part] = np.einsum("nk,nkd->nd", weights, places_N2[some][near])
            job.advance(len(part))
    middle_N2 = places_N2 - places_N2.mean(0)
    return np.asarray(middle_N2 / max(float(np.abs(middle_N2).max()), 1e-12))


def _topics(index: Index, whole: Whole, topics: int | None, seed: int) -> tuple[list[str], np.ndarray]:
    """Names of the topics, and ``(N,)`` the topic of each document."""
    if len(whole.documents) < 8:
        return ["documents"], np.zeros(len(whole.documents), dtype=int)
    found = cluster(index, topics=topics, keywords=3, examples=0, seed=seed)
    names = [", ".join(topic.keywords) or f"topic {topic.number}" for topic in found.topics]
    numbers = dict(zip(found.documents, found.numbers.tolist(), strict=True))
    places = [numbers.get(name, len(names)) for name in whole.documents]  # another process may write meanwhile
    return names + ["deleted meanwhile"] * (len(names) in places), np.array(places)


def _named(whole: Whole, color: str) -> tuple[list[str], np.ndarray]:
    """Values of the metadata, the most frequent first, and ``(N,)`` which of them each document has."""
    values = [str(each.get(color, "none")) for each in whole.metadata]
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    names = sorted(counts, key=lambda name: (-counts[name], name))[:_GROUPS]
    known: dict[str, Any] = {name: number for number, name in enumerate(names)}
    if len(counts) > len(names):
        names.append("other")
    return names, np.array([known.get(value, len(names) - 1) for value in values])


def _kept(vectors_NE: np.ndarray, places_N2: np.ndarray, seed: int) -> float:
    """How well the page keeps neighbours, by some documents."""
    count = len(vectors_NE)
    some = generator("map kept", seed).permutation(count)[:200]
    near, shown = min(10, count - 1), min(50, count - 1)
    right = 0.0
    for place in some:
        by_meaning = np.argsort(-(vectors_NE @ vectors_NE[place]), kind="stable")
        on_page = np.argsort(((places_N2 - places_N2[place]) ** 2).sum(1), kind="stable")
        wanted = [each for each in by_meaning[: near + 1] if each != place][:near]
        right += len(set(wanted) & set(on_page[: shown + 1])) / near
    return right / len(some)
