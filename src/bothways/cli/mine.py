"""``bothways mine``: hard negatives for pairs of texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    EngineName,
    Json,
    ModelSource,
    Overwrite,
    ResumeOut,
    RunPrecision,
    Seed,
    Text,
    TextPair,
    Threads,
    data,
    option,
    written,
)

EXAMPLES = [
    "bothways mine my-vectors questions.jsonl --out with-negatives.jsonl",
    "bothways mine my-vectors pairs.csv --corpus articles.jsonl --relative 0.95 --top 8 --out with-negatives.jsonl",
    "bothways mine my-vectors pairs.csv --corpus articles.jsonl --reranker my-reranker --margin 0.2"
    " --out with-negatives.jsonl",
]


def mine(
    model: ModelSource,
    source: Annotated[str, typer.Argument(metavar="PAIRS", help="Pairs of texts that belong together, a table.")],
    *,
    text: Text = None,
    text_pair: TextPair = None,
    corpus: Annotated[
        str | None, data("--corpus", "FILE", "Where negatives come from; the second texts of PAIRS.")
    ] = None,
    corpus_text: Annotated[str | None, data("--corpus-text", "COLUMN", "The column of its texts.")] = None,
    reranker: Annotated[
        str | None, option("Model", "--reranker", "MODEL", "A cross-encoder that judges in place of the vectors.")
    ] = None,
    top: Annotated[int, option("Choice", "--top", "N", "Negatives of a pair, at most.")] = 5,
    among: Annotated[int, option("Choice", "--among", "N", "How many of the nearest texts are looked at.")] = 100,
    skip: Annotated[int, option("Choice", "--skip", "N", "How many of the nearest are passed over first.")] = 0,
    margin: Annotated[float, option("Choice", "--margin", "X", "How much less alike they must be.")] = 0.0,
    relative: Annotated[
        float | None, option("Choice", "--relative", "SHARE", "Of the right one's likeness, at most; such as 0.95.")
    ] = None,
    draw: Annotated[
        Literal["nearest", "chance"], option("Choice", "--draw", None, "Which of those that do are taken.")
    ] = "nearest",
    seed: Seed = 0,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    out: Annotated[Path, written("--out", "FILE", "A .jsonl or .parquet file.")],
    overwrite: Overwrite = False,
    resume: ResumeOut = True,
    json: Json = False,
) -> None:
    """Find hard negatives: texts that are near the first of a pair, and yet do not belong to it."""
    import bothways as bw
    from bothways.use.mine import KINDS
    from bothways.use.mine import mine as find
    from bothways.use.target import find_target

    find_target(out, KINDS, overwrite=overwrite, reads=[source, corpus])
    judge = None if reranker is None else bw.load(reranker, device=device, precision=precision)
    result = find(
        bw.load(model, device=device, engine=engine, precision=precision),
        source,
        out,
        corpus=corpus,
        reranker=judge,
        text=text,
        text_pair=text_pair,
        corpus_text=corpus_text,
        top=top,
        among=among,
        skip=skip,
        margin=margin,
        relative=relative,
        draw=draw,
        seed=seed,
        overwrite=overwrite,
        resume=resume,
    )
    output.bulk(result, json)
    if not json:
        output.line(f"\nNext: bothways finetune embed {out} --base {model} --out better-vectors")
