"""``bothways evaluate``: how well a fine-tuned model does on labelled data, and what that is worth."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import (
    Adapter,
    DeviceName,
    Json,
    Label,
    ModelSource,
    Overwrite,
    RunPrecision,
    Seed,
    Text,
    TextPair,
    Threads,
    data,
    written,
)
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways evaluate my-classifier test.csv --out evaluation",
    "bothways evaluate my-classifier test.parquet --text review --label stars --json",
    "bothways evaluate my-tagger test.conll",
]

Settings = Annotated[
    list[str] | None, data("--set", "NAME=VALUE", "Any other setting of the task: --set tokens=words --set tags=ner")
]


def evaluate(
    model: ModelSource,
    data: Annotated[str, typer.Argument(metavar="FILE", help="Labelled rows, or - for standard input.")],
    adapter: Adapter = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    settings: Settings = None,
    train: Annotated[
        str | None, data("--train", "FILE", "What it was trained on; its run knows, unless it was moved.")
    ] = None,
    seed: Seed = 0,
    device: DeviceName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    out: Annotated[Path | None, written("--out", "FOLDER", "Gets report.html and metrics.json.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure a fine-tuned model on labelled data: scores with intervals, beside baselines, class by class."""
    import bothways as bw

    columns = {"text": text, "text_pair": text_pair, "label": label, **named(settings or [])}
    judgement = bw.evaluate(
        model,
        data,
        adapter=adapter,
        train=train,
        out=out,
        overwrite=overwrite,
        seed=seed,
        precision=precision,
        device=device,
        **columns,
    )
    if json:
        output.as_json(judgement)
        return
    output.judgement(judgement)
    if out is not None:
        output.line(f"\nReport: {out / 'report.html'}")


def named(given: Sequence[str]) -> dict[str, Any]:
    """Settings as they are typed: ``name=value``, where a value may be JSON, such as a list.

    Raises:
        BothwaysError: One has no ``=``.
    """
    found: dict[str, Any] = {}
    for each in given:
        name, sign, value = each.partition("=")
        if not sign or not name.strip():
            raise BothwaysError(f"--set takes NAME=VALUE, such as --set tokens=words, not {each!r}")
        try:
            read = json_format.loads(value)
        except ValueError:
            read = value
        found[name.strip().replace("-", "_")] = tuple(read) if isinstance(read, list) else read
    return found
