"""``bothways bench``: how fast this machine is."""

from __future__ import annotations

from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    BatchTokens,
    DeviceName,
    Dropout,
    Family,
    GradientCheckpointing,
    Json,
    MaxLength,
    MicroTokens,
    Optimizer,
    Precision,
    Size,
    Text,
    Threads,
    data,
    learned,
    machine,
)
from bothways.cli.reading import named_files

EXAMPLES = [
    "bothways bench pretrain",
    "bothways bench pretrain my-corpus --size small --max-length 512 --seconds 60",
    "bothways bench pretrain --objective mlm+nsp --batch-tokens 16384 --json > speed.json",
]


def pretrain(
    corpus: Annotated[
        list[str] | None, typer.Argument(metavar="[SOURCE]", help="A prepared corpus, or texts; else random words.")
    ] = None,
    *,
    text: Text = "text",
    max_length: MaxLength = 128,
    vocab_size: Annotated[int, data("--vocab-size", "N", "Of the vocabulary, where the corpus brings none.")] = 30_000,
    family: Family = "bert",
    size: Size = None,
    dropout: Dropout = None,
    objective: Annotated[str | None, learned("--objective", "NAMES", "As of: bothways pretrain")] = None,
    batch_tokens: BatchTokens = 4096,
    micro_tokens: MicroTokens = 16_384,
    optimizer: Optimizer = None,
    gradient_checkpointing: GradientCheckpointing = False,
    seconds: Annotated[float, machine("--seconds", "N", "For which each precision is measured.")] = 30.0,
    precision: Annotated[
        Precision, machine("--precision", None, "float32 or bf16; auto measures both in turn.")
    ] = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure how fast this machine pre-trains, in float32 and in bf16, or in the one that is given."""
    settings = dict(locals())
    from bothways.use.bench import bench_pretrain, recommendation

    for own in ("corpus", "threads", "json"):
        del settings[own]
    found = bench_pretrain(named_files(corpus) if corpus else None, **settings)
    if json:
        output.as_json(found)
        return
    columns = ("precision", "tokens/s", "utilisation", "roof", "waiting", "first step", "memory")
    rows = [
        (
            one.precision,
            round(one.tokens_per_second),
            f"{one.utilisation:.0%}",
            f"{one.roof / 1e9:,.0f} GFLOP/s",
            f"{one.waiting:.1%}",
            f"{one.first_step:.1f} s",
            None if one.memory is None else f"{one.memory / 2**20:,.0f} MiB",
        )
        for one in found
    ]
    output.table(columns, rows)
    output.line(f"\n{recommendation(found, device)}")
