"""``bothways compare``: whether one model does better than another, or was lucky."""

from __future__ import annotations

from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.evaluate import Settings, named
from bothways.cli.options import DeviceName, Json, Label, RunPrecision, Seed, Text, TextPair, Threads, written

EXAMPLES = [
    "bothways compare first second test.csv",
    "bothways compare first second test.csv --show 20 --json",
]


def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="A fine-tuned model: its folder, its run's, or a hub id.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another of the same task.")],
    source: Annotated[str, typer.Argument(metavar="FILE", help="Labelled rows that neither has learned from.")],
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    settings: Settings = None,
    show: Annotated[int, written("--show", "N", "How many to show that one has right and the other wrong.")] = 5,
    seed: Seed = 0,
    device: DeviceName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Compare two models on the same examples: is the difference beyond chance, and which examples change sides?"""
    import bothways as bw

    columns = {"text": text, "text_pair": text_pair, "label": label, **named(settings or [])}
    found = bw.compare(a, b, source, show=show, seed=seed, precision=precision, device=device, **columns)
    if json:
        output.as_json(found)
        return
    output.line(found["sentence"] + "\n")
    output.comparison(found)
