"""``bothways augment``: pairs of an own corpus, scored by a cross-encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    EngineName,
    Json,
    Lines,
    ModelSource,
    Overwrite,
    ResumeOut,
    RunPrecision,
    Seed,
    Text,
    Threads,
    data,
    option,
    written,
)

EXAMPLES = [
    "bothways augment my-reranker sentences.txt --out scored.jsonl",
    "bothways augment my-reranker articles.jsonl --by both --vectors my-vectors --top 5 --out scored.jsonl",
]


def augment(
    model: ModelSource,
    source: Annotated[str, typer.Argument(metavar="FILE", help="Texts: a table, lines, or - for standard input.")],
    *,
    text: Text = None,
    lines: Lines = False,
    language: Annotated[str, data("--language", "NAME", "Whose words are brought to their stems; none.")] = "english",
    vectors: Annotated[str | None, option("Model", "--vectors", "MODEL", "Whose vectors say what is near.")] = None,
    by: Annotated[
        Literal["words", "vectors", "both", "chance"],
        option("Choice", "--by", None, "Score pairs that share words, are near as vectors, both, or by chance."),
    ] = "words",
    top: Annotated[int, option("Choice", "--top", "N", "Others of each text that are scored.")] = 3,
    seed: Seed = 0,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    out: Annotated[Path, written("--out", "FILE", "A .csv, .tsv, .jsonl or .parquet file.")],
    overwrite: Overwrite = False,
    resume: ResumeOut = True,
    json: Json = False,
) -> None:
    """Let a cross-encoder score pairs of your own texts, for a bi-encoder to learn from (Augmented SBERT)."""
    import bothways as bw
    from bothways.use.augment import augment as score
    from bothways.use.predictions.shared import TABLES
    from bothways.use.target import find_target

    find_target(out, TABLES, overwrite=overwrite, reads=[source])
    near = None if vectors is None else bw.load(vectors, device=device, engine=engine, precision=precision)
    result = score(
        bw.load(model, device=device, engine=engine, precision=precision),
        source,
        out,
        vectors=near,
        by=by,
        top=top,
        text=text,
        lines=lines,
        language=language,
        seed=seed,
        overwrite=overwrite,
        resume=resume,
    )
    output.bulk(result, json)
    if not json:
        output.line(f"\nNext: bothways finetune embed {out} --base {vectors or 'MODEL'} --out better-vectors")
