"""``bothways quantize``: a copy of a model that opens in lower precision, compared with float32 first."""

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
    "bothways quantize my-embedder small --worst-cosine 0.99",
    "bothways quantize my-classifier small --labelled dev.csv --allowed-loss 0.005",
    "bothways quantize my-embedder small --texts queries.txt",
]


def quantize(
    model: ModelSource,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that is made.")],
    precision: Annotated[
        Literal["int8", "int16", "bf16"], plain("--precision", None, "What it is to compute in.")
    ] = "int8",
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
    """Write a copy of a model that knows how to compute in lower precision: which layers, how like float32, how fast.

    Layers that lose most stay in higher precision. Afterwards --precision int8, or auto, takes it as it is.
    """
    import bothways as bw
    from bothways.run.folder import refuse_folder

    refuse_folder(out, overwrite=overwrite)
    compared = texts_of(texts)
    loaded = bw.load(model, device="cpu", adapter=adapter)
    found = loaded.quantize(
        precision,
        texts=compared,
        metric=metric_of(loaded, labelled),
        allowed_loss=allowed_loss,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
    )
    loaded.save(out, overwrite=overwrite)
    if json:
        output.as_json({"out": out, **vars(found)})
        return
    facts = {"out": out, "precision": precision, "in_higher_precision": ", ".join(found.kept) or "no layer"}
    facts |= alike(found.check)
    if found.metric is not None:
        facts[found.metric["name"]] = f"{found.metric['found']:.4f}, in float32 {found.metric['exact']:.4f}"
    speeds = {name: f"{speed:,.0f}" for name, speed in found.tokens_per_second.items()}
    facts["tokens a second"] = ", ".join(f"{name} {speed}" for name, speed in speeds.items())
    output.facts(facts)
    output.line(f"\nNext: {output.used(loaded, out)} --precision auto  (here: {found.fastest})")
