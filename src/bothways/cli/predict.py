"""``bothways predict``: what a fine-tuned model says of every row of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import (
    Adapter,
    Deterministic,
    DeviceName,
    EngineName,
    EqualDecisions,
    Json,
    Lines,
    ModelSource,
    On,
    Overwrite,
    Pin,
    ResumeOut,
    RunPrecision,
    ShardRows,
    Text,
    TextPair,
    Threads,
    TrainedTruncation,
    Workers,
    WorstCosine,
    data,
    option,
    written,
)

EXAMPLES = [
    "bothways predict my-classifier texts.csv --out labelled.csv",
    "bothways predict my-classifier reviews.parquet --text review --keep --out labelled.parquet",
    "bothways predict my-tagger sentences.conll --out tagged.conll",
    "bothways predict my-reader squad.json --out answers.json",
    "bothways predict my-bert texts.csv --adapter my-run/adapter",
    "bothways predict my-nli-model texts.csv --labels politics,sports,science --template 'This is about {}.'",
    "cat texts.jsonl | bothways predict my-classifier - > labelled.jsonl",
]


def predict(
    model: ModelSource,
    source: Annotated[str, typer.Argument(metavar="FILE", help="What is asked: a table, or - for standard input.")],
    adapter: Adapter = None,
    text: Text = None,
    text_pair: TextPair = None,
    lines: Lines = False,
    question: Annotated[str | None, data("--question", "COLUMN", "The column of questions.")] = None,
    context: Annotated[str | None, data("--context", "COLUMN", "The column of texts that hold answers.")] = None,
    prompt: Annotated[str | None, data("--prompt", "COLUMN", "The column of prompts to choose for.")] = None,
    choices: Annotated[str | None, data("--choices", "COLUMN", "The column of lists of choices.")] = None,
    truncation: TrainedTruncation = None,
    labels: Annotated[
        str | None,
        option("Zero-shot", "--labels", "A,B,...", "Classes in words, for a model of entailment (zero-shot)."),
    ] = None,
    template: Annotated[
        str | None, option("Zero-shot", "--template", "SENTENCE", "With {} where a class goes: This text is about {}.")
    ] = None,
    several: Annotated[bool, option("Zero-shot", "--several", None, "A text may have several of them.")] = False,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    worst_cosine: WorstCosine = None,
    equal_decisions: EqualDecisions = None,
    deterministic: Deterministic = False,
    pin: Pin = False,
    threads: Threads = None,
    out: Annotated[
        Path,
        written("--out", "FILE", "A .csv, .tsv, .jsonl, .parquet, .conll, .json file, a folder, or - (JSON lines)."),
    ] = Path("-"),
    top: Annotated[int, written("--top", "N", "Answers to list for a question.")] = 1,
    keep: Annotated[bool, written("--keep", None, "Keep all columns of the input.")] = False,
    shard_rows: ShardRows = None,
    on: On = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    resume: ResumeOut = True,
    json: Json = False,
) -> None:
    """Answer every row of a file, file to file, in the order of the input: a class, a score, tags, an answer, a choice.

    What is asked is what the model was fine-tuned for; with --labels, classes that need no training.
    """
    import bothways as bw
    from bothways.use import bulk
    from bothways.use.target import find_target

    find_target(out, bulk.PREDICTIONS, shard_rows=shard_rows, overwrite=overwrite, reads=[source])
    loaded = bw.load(
        model,
        device=device,
        engine=engine,
        precision=precision,
        truncation=truncation,
        adapter=adapter,
        worst_cosine=worst_cosine,
        equal_decisions=equal_decisions,
        deterministic=deterministic,
        pin=pin,
    )
    result = bulk.predict(
        loaded,
        source,
        out,
        text=text,
        text_pair=text_pair,
        lines=lines,
        question=question,
        context=context,
        prompt=prompt,
        choices=choices,
        labels=None if labels is None else [label.strip() for label in labels.split(",") if label.strip()],
        template=template,
        several=several,
        top=top,
        keep=keep,
        shard_rows=shard_rows,
        on=on,
        workers=workers,
        overwrite=overwrite,
        resume=resume,
    )
    output.bulk(result, json)
