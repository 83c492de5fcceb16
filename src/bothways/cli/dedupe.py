"""``bothways dedupe``: documents of an index that say the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from bothways.cli import output
from bothways.cli.options import Json, Overwrite, Place, plain, written

EXAMPLES = [
    "bothways dedupe my-index",
    "bothways dedupe my-index --similarity 0.9 --out twins.csv",
    "bothways dedupe my-index --similarity 0.98 --delete",
]
_SHOWN = 20


def dedupe(
    place: Place,
    similarity: Annotated[float, plain("--similarity", "COSINE", "From where two texts say the same.")] = 0.95,
    delete: Annotated[bool, plain("--delete", None, "Delete those that are one too many from the index.")] = False,
    out: Annotated[
        Path | None, written("--out", "FILE", "A .csv, .tsv, .jsonl or .parquet: those one too many.")
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Find documents of an index whose texts are equal or nearly so."""
    from bothways.use.search.duplicates import dedupe as find
    from bothways.use.search.duplicates import delete_twins
    from bothways.use.search.index import Index
    from bothways.use.search.whole import find_table, write_rows

    if out is not None:
        find_table(out, overwrite=overwrite)
    index = Index.open(place)
    found = find(index, similarity=similarity)
    if out is not None:
        names = ("document", "kept", "similarity", "text", "kept_text")
        columns = {name: [getattr(twin, name) for twin in found.twins] for name in names}
        write_rows(out, columns, overwrite=overwrite)
    if delete:  # only now, so that the list is there whatever happens
        delete_twins(index, found)
    if json:
        output.as_json(found)
        return
    done = "were deleted" if delete else "are one too many"
    output.line(f"{len(found.twins):,} of {found.documents:,} documents {done}, {found.equal:,} with an equal text")
    closest = sorted(found.twins, key=lambda twin: -twin.similarity)[:_SHOWN]
    if closest:
        output.line("")
        output.table(
            ("cosine", "document", "kept", "text"),
            [(twin.similarity, twin.document, twin.kept, twin.text[:100]) for twin in closest],
        )
