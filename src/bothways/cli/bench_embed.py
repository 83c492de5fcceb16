"""``bothways bench embed``: how fast a model runs on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    AllowedLoss,
    AnyPrecision,
    EqualDecisions,
    Json,
    Labelled,
    ModelSource,
    Text,
    Threads,
    WorstCosine,
    machine,
    written,
)

if TYPE_CHECKING:
    from bothways.use.bench_embed import Embedded

EXAMPLES = [
    "bothways bench embed my-bert",
    "bothways bench embed my-bert reviews.csv --text review --seconds 30",
    "bothways bench embed my-bert --engine packed --precision int8 --json",
    "bothways bench embed my-classifier --labelled dev.csv --allowed-loss 0.005 --keep",
]
_TEXTS = 2000


def embed(
    model: ModelSource,
    source: Annotated[
        str | None, typer.Argument(metavar="[TEXTS]", help="A table of texts; else English ones of many lengths.")
    ] = None,
    *,
    text: Text = None,
    labelled: Labelled = None,
    allowed_loss: AllowedLoss = None,
    engine: Annotated[
        str | None, machine("--engine", "NAME", "This one alone: packed, reference, gpu, onnx or openvino.")
    ] = None,
    precision: AnyPrecision = None,
    worst_cosine: WorstCosine = None,
    equal_decisions: EqualDecisions = None,
    seconds: Annotated[float, machine("--seconds", "N", "For which the throughput of each is measured.")] = 10.0,
    threads: Threads = None,
    keep: Annotated[
        bool, written("--keep", None, "MODEL's folder keeps what was found; --precision auto then takes the fastest.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure how fast a model runs here, in each engine and precision, and how like float32 it stays."""
    from itertools import islice

    from bothways.run.bound import Bound, asked_bound
    from bothways.run.exported import is_exported
    from bothways.run.hub import find_model
    from bothways.use.bench_embed import ASKED, bench_embed, recommendation
    from bothways.use.predictions.shared import Wish, ask_texts

    texts = None
    if source is not None:
        rows = ask_texts(source, Wish(text=text), pairs=False)
        texts = [str(row.inputs[0]) for row in islice(rows, _TEXTS)]
    found = bench_embed(
        model,
        texts,
        engine=engine,
        precision=precision,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
        labelled=labelled,
        allowed_loss=allowed_loss,
        keep=keep,
        threads=threads,
        seconds=seconds,
    )
    if json:
        output.as_json(found)
        return
    columns = (
        "engine",
        "precision",
        "tokens/s",
        *(f"ms for {n} (p99)" for n in ASKED),
        "memory",
        "load",
        "worst cosine",
        "mean cosine",
        *(("metric (change)",) if labelled else ()),
    )
    rows_of_table = [
        (
            one.engine,
            one.precision,
            round(one.tokens_per_second),
            *(f"{median:.1f} ({late:.1f})" for median, late in (one.latency or {}).values()),
            None if one.memory is None else f"{one.memory / 2**20:,.0f} MiB",
            f"{one.load:.1f} s",
            f"{one.worst_cosine:.6f}" + ("" if one.equal is None else f", {one.equal:.1%} equal decisions"),
            f"{one.mean_cosine:.6f}",
            *((_metric(one),) if one.metric is not None else ()),
        )
        for one in found
        if not one.refused
    ]
    output.table(columns, rows_of_table)
    for one in found:
        if one.refused:
            output.line(f"{one.engine} {one.precision}: {one.refused}")
    bound, exported = asked_bound(worst_cosine, equal_decisions) or Bound(), is_exported(find_model(model, False))
    output.line(f"\n{recommendation(found, bound, allowed_loss, exported=exported)}")


def _metric(one: Embedded) -> str:
    return f"{one.metric:.4f}" + (f" ({one.change:+.4f})" if one.change is not None else "")
