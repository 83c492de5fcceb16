"""``bothways embed``: a vector for every text of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    Deterministic,
    DeviceName,
    Dims,
    EngineName,
    EqualDecisions,
    Json,
    Lines,
    ModelSource,
    On,
    Overwrite,
    Pin,
    Pooling,
    Prompt,
    ResumeOut,
    RunPrecision,
    ShardRows,
    Text,
    Threads,
    TrainedTruncation,
    Workers,
    WorstCosine,
    option,
)

EXAMPLES = [
    "bothways embed my-bert texts.csv vectors.npy",
    "bothways embed my-bert reviews.parquet vectors.parquet --text review --pooling cls",
    "bothways embed intfloat/multilingual-e5-small questions.txt vectors.npy --prompt query",
    "bothways embed my-bert texts/ vectors/ --shard-rows 100000",
    "cat texts.jsonl | bothways embed my-bert - vectors.jsonl --truncation window",
]


def embed(
    model: ModelSource,
    source: Annotated[
        str, typer.Argument(metavar="IN", help="Texts: a table, .txt, .npy, a folder, or - (standard input).")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A .npy, .jsonl, .parquet or .csv file, a folder, or - (JSON lines).")
    ],
    text: Text = None,
    lines: Lines = False,
    pooling: Pooling = None,
    normalize: Annotated[
        bool | None,
        option("Vectors", "--normalize/--no-normalize", None, "Vectors of length 1; as the model was trained."),
    ] = None,
    prompt: Prompt = None,
    dims: Dims = None,
    truncation: TrainedTruncation = None,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    worst_cosine: WorstCosine = None,
    equal_decisions: EqualDecisions = None,
    deterministic: Deterministic = False,
    pin: Pin = False,
    threads: Threads = None,
    shard_rows: ShardRows = None,
    on: On = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    resume: ResumeOut = True,
    json: Json = False,
) -> None:
    """Turn every text of a file into a vector, file to file, in the order of the input."""
    import bothways as bw
    from bothways.use import bulk
    from bothways.use.target import find_target

    find_target(out, bulk.VECTORS, shard_rows=shard_rows, overwrite=overwrite, reads=[source])
    loaded = bw.load(
        model,
        device=device,
        engine=engine,
        precision=precision,
        truncation=truncation,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
        deterministic=deterministic,
        pin=pin,
    )
    result = bulk.embed(
        loaded,
        source,
        out,
        text=text,
        lines=lines,
        pooling=pooling,
        normalize=normalize,
        prompt=prompt,
        dims=dims,
        shard_rows=shard_rows,
        on=on,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
    )
    output.bulk(result, json)
