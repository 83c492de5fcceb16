"""``bothways report``: one page on a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import Json, Overwrite, written

EXAMPLES = ["bothways report my-bert", "bothways report my-bert --out page.html"]


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, finished or not.")],
    out: Annotated[Path | None, written("--out", "FILE", "The page; report.html in the run's folder.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Draw one page on a training run: curves, gradients, what is guessed right, samples over time, settings."""
    import bothways as bw

    page = bw.write_report(run, out, overwrite=overwrite)
    if json:
        output.as_json({"report": str(page)})
    else:
        output.line(str(page))
