"""``bothways inspect vectors``: how the vectors of models lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    Json,
    Label,
    ModelSource,
    Overwrite,
    Pooling,
    Seed,
    Text,
    TextPair,
    option,
    written,
)

EXAMPLES = [
    "bothways inspect vectors my-bert",
    "bothways inspect vectors my-bert stsb/dev.jsonl.gz --against my-sentence-bert --out vectors.html",
    "bothways inspect vectors my-bert pairs.csv --whiten --dims 256 --save my-bert-white",
]


def vectors(
    model: ModelSource,
    data: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Texts, best in pairs with scores; Python's documentation if left out."),
    ] = None,
    against: Annotated[
        list[str] | None, option("Vectors", "--against", "MODEL", "Another model on the same texts; may be repeated.")
    ] = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    pooling: Pooling = None,
    whiten: Annotated[
        bool, option("Vectors", "--whiten", None, "Look at whitened vectors too (Su et al. 2021).")
    ] = False,
    dims: Annotated[int | None, option("Vectors", "--dims", "N", "Directions that whitening keeps; all.")] = None,
    seed: Seed = 0,
    device: DeviceName = None,
    save: Annotated[Path | None, written("--save", "FOLDER", "Gets MODEL with whitening as its dense layer.")] = None,
    out: Annotated[Path | None, written("--out", "FILE", "Gets a page with pictures (.html).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Show how vectors lie: in a cone or all around, near what they belong to or not, before and after training."""
    from bothways.learn.inspect_vectors import inspect_vectors
    from bothways.report.vectors_page import inspected_rows, inspected_sentences

    found = inspect_vectors(
        model,
        data,
        against=against or (),
        text=text,
        text_pair=text_pair,
        label=label,
        pooling=pooling,
        whiten=whiten,
        dims=dims,
        save=save,
        out=out,
        overwrite=overwrite,
        seed=seed,
        device=device,
    )
    if json:
        output.as_json(found)
        return
    columns, rows = inspected_rows(found)
    output.table(columns, rows)
    output.line("\n" + "\n".join(inspected_sentences(found)))
    if out is not None:
        output.line(f"\nPage: {out}")
