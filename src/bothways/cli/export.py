"""``bothways export``: a model as a graph that runs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.comparing import alike, metric_of, texts_of
from bothways.cli.options import (
    Adapter,
    AllowedLoss,
    Compared,
    EqualDecisions,
    Json,
    Labelled,
    ModelSource,
    Overwrite,
    Threads,
    WorstCosine,
    plain,
)

EXAMPLES = [
    "bothways export my-classifier exported --to onnx",
    "bothways export my-embedder small --to onnx --precision int8 --worst-cosine 0.99",
    "bothways export my-tagger graph --to openvino",
]


def export(
    model: ModelSource,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that is made.")],
    to: Annotated[Literal["onnx", "openvino"], plain("--to", None, "What runs it: ONNX Runtime or OpenVINO.")] = "onnx",
    precision: Annotated[
        Literal["float32", "int8"], plain("--precision", None, "Of the weights; int8 for onnx only.")
    ] = "float32",
    texts: Compared = None,
    labelled: Labelled = None,
    allowed_loss: AllowedLoss = None,
    worst_cosine: WorstCosine = None,
    equal_decisions: EqualDecisions = None,
    adapter: Adapter = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a model as a graph that runs without torch: tokens in, vectors and the answers of all heads out."""
    import bothways as bw

    compared = texts_of(texts)
    loaded = bw.load(model, device="cpu", adapter=adapter)
    made = loaded.export(
        out,
        to=to,
        precision=precision,
        texts=compared,
        metric=metric_of(loaded, labelled),
        allowed_loss=allowed_loss,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
        overwrite=overwrite,
    )
    figures = {"out": made.folder, "to": made.to, "precision": made.precision, "megabytes": made.megabytes}
    if json:
        output.as_json(figures | {"kept": made.kept, "check": made.check})
        return
    if precision == "int8":
        figures["in_float32"] = ", ".join(made.kept) or "no layer"
    output.facts(figures | alike(made.check))
    output.line(f"\nNext: {output.used(loaded, out)}")
