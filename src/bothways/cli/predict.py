"""``bothways predict``: the label of every text of a file, with probabilities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    Json,
    ModelSource,
    Overwrite,
    PrecisionName,
    Text,
    TextPair,
    Threads,
    TrainedTruncation,
    written,
)

EXAMPLES = [
    "bothways predict my-classifier texts.csv --out labelled.csv",
    "bothways predict my-classifier reviews.parquet --text review --out labelled.parquet",
    "cat texts.jsonl | bothways predict my-classifier - > labelled.jsonl",
]


def predict(
    model: ModelSource,
    source: Annotated[str, typer.Argument(metavar="FILE", help="A table of texts, or - for standard input.")],
    text: Text = None,
    text_pair: TextPair = None,
    truncation: TrainedTruncation = None,
    device: DeviceName = None,
    precision: PrecisionName = "float32",
    threads: Threads = None,
    out: Annotated[Path, written("--out", "FILE", "A .csv, .tsv, .jsonl or .parquet file, or - (JSON lines).")] = Path(
        "-"
    ),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Say which class every text of a file belongs to, file to file, in the order of the input."""
    import bothways as bw
    from bothways.use import bulk
    from bothways.use.writers import check_name

    if str(out) != "-":
        check_name(out, bulk.PREDICTIONS, overwrite=overwrite)
    loaded = bw.load(model, device=device, precision=precision, truncation=truncation)
    result = bulk.predict(loaded, source, out, text=text, text_pair=text_pair, overwrite=overwrite)
    output.bulk(result, json)
