"""``bothways search``: find documents of an index by meaning, by words, or by both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    EngineName,
    Json,
    Place,
    PlaceModel,
    RunPrecision,
    Threads,
    Where,
    plain,
    written,
)
from bothways.cli.reading import lines_or_texts

if TYPE_CHECKING:
    from bothways.use.search.asking import Hit

EXAMPLES = [
    'bothways search my-index "what keeps bread fresh"',
    'bothways search my-index "heart attack" --where "year >= 2010" --reranker my-reranker --top 5',
    'bothways search my-index "OSError 28" --by words --json',
    "bothways search my-index - < queries.txt > found.jsonl",
]


def search(
    place: Place,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What is looked for, or - for lines of them.")],
    top: Annotated[int, written("--top", "N", "How many are shown.", min=1)] = 10,
    by: Annotated[
        Literal["hybrid", "meaning", "words"], plain("--by", None, "By vectors, by BM25, or by both, fused.")
    ] = "hybrid",
    where: Where = None,
    reranker: Annotated[
        str | None, plain("--reranker", "MODEL", "A cross-encoder that orders what was found anew.")
    ] = None,
    reranker_share: Annotated[
        float, plain("--reranker-share", "SHARE", "What its order counts beside the first one; 1: it alone.")
    ] = 1.0,
    depth: Annotated[int, plain("--depth", "N", "Passages found by each side, and reranked.", min=1)] = 100,
    exact: Annotated[bool, plain("--exact", None, "Compare all vectors, without an approximate index.")] = False,
    model: PlaceModel = None,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Find the documents of an index that fit a query best.

    Of several queries, from standard input, what was found is printed as a line of JSON each.
    """
    from bothways.use.search.index import Index

    index = Index.open(place, model, device=device, engine=engine, precision=precision)
    queries = lines_or_texts([query])
    how: dict[str, Any] = {"reranker": reranker, "reranker_share": reranker_share, "depth": depth, "exact": exact}
    found = index.search(queries, top=top, by=by, where=where, **how)
    if query == "-":
        for each, hits in zip(queries, found, strict=True):
            output.json_line({"query": each, "hits": hits})
    elif json:
        output.as_json(found[0])
    else:
        _show(query, found[0])


def _show(query: str, hits: Sequence[Hit]) -> None:
    if not hits:
        output.line("Nothing was found.")
        return
    rows = [
        (place, round(hit.score, 4), hit.document, output.excerpt(hit.text, query)) for place, hit in enumerate(hits, 1)
    ]
    output.table(("", "score", "document", "text"), rows)
