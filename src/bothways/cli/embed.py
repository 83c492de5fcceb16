"""``bothways embed``: a vector for every text of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    Json,
    ModelSource,
    Overwrite,
    PrecisionName,
    Text,
    Threads,
    TrainedTruncation,
    plain,
)

EXAMPLES = [
    "bothways embed my-bert texts.csv vectors.npy",
    "bothways embed my-bert reviews.parquet vectors.parquet --text review --pooling cls",
    "cat texts.jsonl | bothways embed my-bert - vectors.jsonl --truncation window",
]


def embed(
    model: ModelSource,
    source: Annotated[str, typer.Argument(metavar="IN", help="A table of texts, or - for standard input.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .npy, .jsonl or .parquet file, or - (JSON lines).")],
    text: Text = None,
    pooling: Annotated[
        Literal["mean", "cls", "max"] | None,
        plain("--pooling", None, "How tokens become one vector; as the model was trained."),
    ] = None,
    normalize: Annotated[
        bool | None, plain("--normalize/--no-normalize", None, "Vectors of length 1; as the model was trained.")
    ] = None,
    truncation: TrainedTruncation = None,
    device: DeviceName = None,
    precision: PrecisionName = "float32",
    threads: Threads = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Turn every text of a file into a vector, file to file, in the order of the input."""
    import bothways as bw
    from bothways.use import bulk
    from bothways.use.writers import check_name

    if str(out) != "-":
        check_name(out, bulk.VECTORS, overwrite=overwrite)
    loaded = bw.load(model, device=device, precision=precision, truncation=truncation)
    result = bulk.embed(loaded, source, out, text=text, pooling=pooling, normalize=normalize, overwrite=overwrite)
    output.bulk(result, json)
