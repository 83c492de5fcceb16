"""``bothways finetune``: teach a pre-trained encoder a task."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    BatchSize,
    DeviceName,
    Dropout,
    EvaluateEvery,
    From,
    GradientCheckpointing,
    Json,
    Label,
    LearningRate,
    MaxLength,
    MicroTokens,
    Out,
    Overwrite,
    PrecisionName,
    Resume,
    Seed,
    Steps,
    TensorBoard,
    Text,
    TextPair,
    Threads,
    TruncationPolicy,
    Warmup,
    WeightDecay,
    data,
    option,
    training,
)

EXAMPLES = [
    "bothways finetune classify train.csv --base my-bert --out my-classifier",
    "bothways finetune classify train.tsv --dev dev.tsv --base bert-base-uncased --text sentence --label polarity"
    " --out polarity",
    "bothways finetune classify --from my-classifier/run.json --seed 1 --out second-classifier",
]

Metric = Literal["accuracy", "macro_f1", "mcc", "loss"]
Hidden = Literal["none", "gelu"]


def classify(
    train: Annotated[list[str], typer.Argument(metavar="TRAIN", help="Tables of labelled texts, or -.")],
    *,
    dev: Annotated[str | None, data("--dev", "FILE", "To choose the best weights by; else a tenth of TRAIN.")] = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    max_length: MaxLength = 128,
    truncation: TruncationPolicy = "warn",
    base: Annotated[str, option("Model", "--base", "MODEL", "The encoder to start from.")],
    reads: Annotated[str | None, option("Model", "--reads", "WHAT", "pooled, first or mean: what it looks at.")] = None,
    hidden: Annotated[
        Hidden | None, option("Model", "--hidden", None, "A linear classifier, or a hidden layer.")
    ] = None,
    dropout: Dropout = None,
    again: From = None,
    freeze: Annotated[bool, training("--freeze", None, "Train the classifier alone.")] = False,
    epochs: Annotated[int, training("--epochs", "N", "Passes over the training data.")] = 3,
    steps: Steps = None,
    batch_size: BatchSize = 32,
    micro_tokens: MicroTokens = 16_384,
    learning_rate: LearningRate = None,
    weight_decay: WeightDecay = 0.01,
    warmup: Warmup = 0.1,
    gradient_checkpointing: GradientCheckpointing = False,
    metric: Annotated[Metric, training("--metric", None, "What the best weights are chosen by.")] = "macro_f1",
    evaluate_every: EvaluateEvery = None,
    patience: Annotated[int | None, training("--patience", "N", "Stop after so many evaluations without gain.")] = None,
    seed: Seed = 0,
    precision: PrecisionName = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    out: Out,
    resume: Resume = True,
    overwrite: Overwrite = False,
    tensorboard: TensorBoard = False,
    json: Json = False,
) -> None:
    """Fine-tune an encoder to sort texts, or pairs of texts, into classes."""
    settings = dict(locals())
    import bothways as bw

    for own in ("train", "again", "threads", "json"):
        del settings[own]
    result = bw.finetune("classify", train=output.one(train), **settings)
    if json:
        history = {"steps": result.history.steps, "seconds": result.history.seconds}
        output.as_json({"out": result.out, "dev": result.dev, **history, **result.scores})
        return
    output.line(f"Best weights, scored on {result.dev}:\n")
    output.scores(result.scores)
    output.line(f"\nNext: bothways predict {out} texts.csv --out labelled.csv")
