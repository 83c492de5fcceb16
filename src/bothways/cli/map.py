"""``bothways map``: the documents of an index as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import Json, Overwrite, Place, Seed, Topics, plain

EXAMPLES = [
    "bothways map my-index map.html",
    "bothways map my-index map.html --color year --overwrite",
]


def draw(
    place: Place,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The page, a .html file.")],
    color: Annotated[str | None, plain("--color", "NAME", "What of the metadata colours points; topics.")] = None,
    topics: Topics = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw the documents of an index as one HTML page, to zoom and search: what is near in meaning is near there."""
    from bothways.use.search.index import Index
    from bothways.use.search.picture import draw_map

    found = draw_map(Index.open(place), out, color=color, topics=topics, seed=seed, overwrite=overwrite)
    if json:
        output.as_json(found)
        return
    output.line(f"{found.documents:,} documents on {found.out}; {found.kept:.0%} of nearest neighbours are near there")
