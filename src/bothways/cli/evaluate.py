"""``bothways evaluate``: how well a classifier does on labelled data."""

from __future__ import annotations

from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import DeviceName, Json, Label, ModelSource, PrecisionName, Text, TextPair, Threads

EXAMPLES = [
    "bothways evaluate my-classifier test.csv",
    "bothways evaluate my-classifier test.parquet --text review --label stars --json",
]


def evaluate(
    model: ModelSource,
    data: Annotated[str, typer.Argument(metavar="FILE", help="A table of labelled texts, or - for standard input.")],
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    device: DeviceName = None,
    precision: PrecisionName = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure a classifier on labelled data: accuracy, macro-F1, MCC, each class, and what is taken for what."""
    import bothways as bw

    scores = bw.evaluate(model, data, text=text, text_pair=text_pair, label=label, precision=precision, device=device)
    if json:
        output.as_json(scores)
    else:
        output.scores(scores)
