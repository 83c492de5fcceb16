"""The options that several commands share: the same name means the same everywhere.

What values make sense is checked where the values are used, in the library, not here.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bothways.cli.repeat import repeat
from bothways.cli.threads import limit


def option(panel: str | None, name: str, metavar: str | None, said: str, **more: Any) -> Any:
    """An option of the command line.

    Args:
        panel: Under which heading of the help it stands.
        name: As typed.
        metavar: What stands for its value in the help; None for flags and choices.
        said: Its help.
        more: Anything else that typer takes.
    """
    return typer.Option(name, metavar=metavar, help=said, rich_help_panel=panel, **more)


data = partial(option, "Data")
learned = partial(option, "Objective")
training = partial(option, "Training")
machine = partial(option, "Machine")
written = partial(option, "Output")
plain = partial(option, None)

Precision = Literal["auto", "float32", "bf16"]
Truncation = Literal["warn", "error", "head", "head_tail", "window"]

Source = Annotated[
    list[str], typer.Argument(metavar="SOURCE", help="Files or folders of texts, or - for standard input.")
]
ModelSource = Annotated[str, typer.Argument(metavar="MODEL", help="A model folder, a run's folder, or a hub id.")]
Adapter = Annotated[
    Path | None,
    option("Model", "--adapter", "FOLDER", "What LoRA learned, by finetune or peft, merged into its base MODEL."),
]
Text = Annotated[str | None, data("--text", "COLUMN", "The column of texts.")]
TextPair = Annotated[str | None, data("--text-pair", "COLUMN", "The column of second texts.")]
Label = Annotated[str | None, data("--label", "COLUMN", "The column of labels.")]
Lines = Annotated[bool, data("--lines", None, "Each line is a text; so are those of .txt files.")]
MaxLength = Annotated[int | None, data("--max-length", "N", "The most tokens of a sequence.")]
TruncationPolicy = Annotated[
    Truncation,
    data("--truncation", None, "Longer texts: cut and say so, refuse, keep head or head and tail, or read in windows."),
]

TrainedTruncation = Annotated[
    Truncation | None,
    data("--truncation", None, "Longer texts: warn, error, head, head_tail or window; by default as in training."),
]

Pooling = Annotated[
    str | None,
    option("Vectors", "--pooling", "WAY", "mean, cls, max, mean_sqrt, last, weighted_mean, attention, or cls+mean."),
]
Prompt = Annotated[
    str | None, option("Vectors", "--prompt", "NAME|TEXT", "What is put before texts: query, document, or a text.")
]
Dims = Annotated[int | None, option("Vectors", "--dims", "N", "Keep the first N values of a vector (Matryoshka).")]

Place = Annotated[
    str, typer.Argument(metavar="INDEX", help="A folder, s3://bucket/name, or postgresql://host/database#name.")
]
PlaceModel = Annotated[
    str | None, option("Model", "--model", "MODEL", "The model that made the vectors, if it is not where it was.")
]
Where = Annotated[
    str | None, data("--where", "FILTER", "Only documents that pass, such as: year >= 2010 and topic = 'film'")
]
Topics = Annotated[int | None, plain("--topics", "N", "How many topics; as many as suit.", min=2)]

Family = Annotated[str, option("Model", "--family", "NAME", "See: bothways families")]
FamilyOrBase = Annotated[
    str | None, option("Model", "--family", "NAME", "See: bothways families; bert, or what --base is.")
]
AttentionStart = Annotated[
    Literal["neighbours", "random"] | None,
    option("Model", "--attention-start", None, "From random weights: heads look at neighbours, or at nothing."),
]
Size = Annotated[
    str | None, option("Model", "--size", "NAME", "A published size; with a teacher also half of it, or layers.")
]

From = Annotated[
    Path | None,
    training(
        "--from",
        "RUN.JSON",
        "Repeat a run: its settings hold where nothing else is typed.",
        is_eager=True,
        callback=repeat,
    ),
]
Steps = Annotated[int | None, training("--steps", "N", "Optimizer steps to take.")]
Minutes = Annotated[float | None, training("--minutes", "MINUTES", "Time for the training.")]
BatchTokens = Annotated[int, training("--batch-tokens", "N", "Tokens in an optimizer step.")]
BatchSize = Annotated[int, training("--batch-size", "N", "Texts in an optimizer step.")]
MicroTokens = Annotated[int, training("--micro-tokens", "N", "Tokens in memory at once; larger steps add up.")]
LearningRate = Annotated[float | None, training("--learning-rate", "RATE", "The highest one; suits the width.")]
Schedule = Annotated[
    Literal["linear", "cosine", "constant"], training("--schedule", None, "How the rate goes on after the warm-up.")
]
WeightDecay = Annotated[float, training("--weight-decay", "SHARE", "Of AdamW, on weight matrices.")]
Warmup = Annotated[float, training("--warmup", "SHARE", "Share of the steps in which the rate rises.")]
MaskRate = Annotated[float | None, learned("--mask-rate", "SHARE", "Share of the tokens to guess.")]
Dropout = Annotated[float | None, training("--dropout", "SHARE", "Everywhere; as the size has it.")]
Optimizer = Annotated[str | None, training("--optimizer", "NAME", "adamw or muon; muon from random weights.")]
GradientCheckpointing = Annotated[
    bool, training("--gradient-checkpointing", None, "Compute layers twice to hold less in memory.")
]
EvaluateEvery = Annotated[
    float | None, training("--evaluate-every", "N", "Steps between evaluations, or a share of all.")
]
Seed = Annotated[int, training("--seed", "N", "The same seed gives the same numbers.")]

DeviceName = Annotated[str | None, machine("--device", "NAME", "cpu, cuda, ...; a GPU where there is one.")]
PrecisionName = Annotated[
    Precision,
    machine("--precision", None, "Numbers to multiply in; auto takes bf16 where the device multiplies it natively."),
]
EngineName = Annotated[
    str | None,
    machine("--engine", "NAME", "packed, reference, gpu; for exported models onnx, openvino; the fastest there is."),
]
RunPrecision = Annotated[
    Literal["auto", "float32", "bf16", "fp16", "int16", "int8"],
    machine(
        "--precision",
        None,
        "Numbers to multiply in; lower ones are faster and checked; auto: the fastest; fp16 is for GPUs.",
    ),
]
WorstCosine = Annotated[
    float | None,
    machine("--worst-cosine", "COSINE", "What lower precision must keep of every vector; 0.999, or as quantized."),
]
EqualDecisions = Annotated[
    float | None,
    machine("--equal-decisions", "SHARE", "Decisions of each head that it must keep; 0.995, or as quantized."),
]
Deterministic = Annotated[
    bool, machine("--deterministic", None, "The same to the bit whatever else is asked; each text alone, slower.")
]
Pin = Annotated[bool, machine("--pin", None, "Keep each thread to a processor core of its own.")]
Labelled = Annotated[
    str | None, data("--labelled", "FILE", "Labelled rows: the task's first metric decides, instead of cosines.")
]
AllowedLoss = Annotated[float | None, data("--allowed-loss", "SHARE", "How much of that metric may be lost; 0.005.")]
Compared = Annotated[
    Path | None, data("--texts", "FILE", "Texts to compare with MODEL on: a table, a .txt, or -; else English ones.")
]
AnyPrecision = Annotated[
    Literal["float32", "bf16", "fp16", "int16", "int8"] | None, machine("--precision", None, "Only this one.")
]
Threads = Annotated[
    int | None, machine("--threads", "N", "Processor threads; all that are allowed.", min=1, callback=limit)
]

On = Annotated[Literal["ray"] | None, machine("--on", None, "A cluster to work on, instead of here.")]
Workers = Annotated[int | None, machine("--workers", "N", "Processes to work in; of a cluster one a processor.", min=1)]

ShardRows = Annotated[int | None, written("--shard-rows", "N", "Make OUT a folder of files of so many rows.", min=1)]
Out = Annotated[Path, written("--out", "FOLDER", "Where it is written.")]
Overwrite = Annotated[bool, written("--overwrite", None, "Replace what is in the output's place.")]
Force = Annotated[bool, written("--force", None, "Go on with other settings too, where that does no harm.")]
Resume = Annotated[bool, written("--resume/--no-resume", None, "Go on with an interrupted run in --out.")]
ResumeOut = Annotated[bool, written("--resume/--no-resume", None, "Go on after what an interrupted run answered.")]
SaveMinutes = Annotated[float, written("--save-minutes", "MINUTES", "Minutes between checkpoints.")]
TensorBoard = Annotated[bool, written("--tensorboard", None, "Write TensorBoard's files beside the log.")]
Json = Annotated[bool, written("--json", None, "Print the result as JSON.")]
Quiet = Annotated[bool, plain("--quiet", None, "Show no progress.")]
Debug = Annotated[bool, plain("--debug", None, "Print a traceback after an error.")]
