"""``bothways cluster``: what the documents of an index are about."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bothways.cli import output
from bothways.cli.options import Json, Overwrite, Place, Seed, Topics, plain, written

EXAMPLES = [
    "bothways cluster my-index",
    "bothways cluster my-index --topics 20 --out topics.csv",
]


def cluster(
    place: Place,
    topics: Topics = None,
    keywords: Annotated[int, plain("--keywords", "N", "Words that tell of a topic.")] = 8,
    examples: Annotated[int, plain("--examples", "N", "Documents shown of a topic.")] = 3,
    seed: Seed = 0,
    out: Annotated[
        Path | None, written("--out", "FILE", "A .csv, .tsv, .jsonl or .parquet: every document's topic.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Group the documents of an index into topics, each told by its keywords."""
    from bothways.use.search.index import Index
    from bothways.use.search.topics import cluster as group
    from bothways.use.search.whole import find_table, write_rows

    if out is not None:
        find_table(out, overwrite=overwrite)
    found = group(Index.open(place), topics=topics, keywords=keywords, examples=examples, seed=seed)
    if out is not None:
        columns = {"document": found.documents, "topic": found.numbers.tolist()}
        write_rows(out, {**columns, "similarity": found.similarities.tolist()}, overwrite=overwrite)
    if json:
        output.as_json(found.topics)
        return
    rows = [(each.number, each.documents, ", ".join(each.keywords), "; ".join(each.examples)) for each in found.topics]
    output.table(("topic", "documents", "keywords", "examples"), rows)
