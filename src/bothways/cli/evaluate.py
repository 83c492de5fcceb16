"""``bothways evaluate``: how well a fine-tuned model does on labelled data, and what that is worth."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    Adapter,
    DeviceName,
    Dims,
    Json,
    Label,
    ModelSource,
    Overwrite,
    Pooling,
    RunPrecision,
    Seed,
    Text,
    TextPair,
    Threads,
    data,
    option,
    written,
)
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways evaluate my-classifier test.csv --out evaluation",
    "bothways evaluate my-classifier test.parquet --text review --label stars --json",
    "bothways evaluate my-tagger test.conll",
    "bothways evaluate all-MiniLM-L6-v2 stsb/test.jsonl.gz",
    "bothways evaluate all-MiniLM-L6-v2 scifact --split test --out evaluation",
    "bothways evaluate bert-base-uncased stsb/test.jsonl.gz --measure sts --pooling cls",
]

Settings = Annotated[
    list[str] | None, data("--set", "NAME=VALUE", "Any other setting of the task: --set tokens=words --set tags=ner")
]

Measure = Annotated[
    Literal["sts", "pairs", "retrieval", "reranking", "bitext", "clustering"] | None,
    option("Vectors", "--measure", None, "What vectors are to be good at; as the data suits."),
]
Split = Annotated[
    str | None, option("Vectors", "--split", "NAME", "Of a folder with a corpus and queries: whose judgements; test.")
]


def evaluate(
    model: ModelSource,
    data: Annotated[
        str, typer.Argument(metavar="FILE", help="Labelled rows, - for standard input, or a folder to search in.")
    ],
    adapter: Adapter = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    settings: Settings = None,
    train: Annotated[
        str | None, data("--train", "FILE", "What it was trained on; its run knows, unless it was moved.")
    ] = None,
    measure: Measure = None,
    split: Split = None,
    pooling: Pooling = None,
    dims: Dims = None,
    seed: Seed = 0,
    device: DeviceName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    out: Annotated[Path | None, written("--out", "FOLDER", "Gets report.html and metrics.json.")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Measure a fine-tuned model on labelled data, or any model's vectors: scores with intervals."""
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
        measure=measure,
        split=split,
        pooling=pooling,
        dims=dims,
        **columns,
    )
    if json:
        output.as_json(judgement)
        return
    if "measure" in judgement:
        output.measured(judgement)
    else:
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
