"""``bothways pretrain``: from raw text to an encoder."""

from __future__ import annotations

from typing import Annotated

from bothways.cli import output
from bothways.cli.options import (
    BatchTokens,
    DeviceName,
    Dropout,
    EvaluateEvery,
    From,
    Json,
    LearningRate,
    MaxLength,
    MicroTokens,
    Minutes,
    Out,
    Overwrite,
    PrecisionName,
    Resume,
    SaveMinutes,
    Seed,
    Source,
    Steps,
    TensorBoard,
    Text,
    Threads,
    Warmup,
    WeightDecay,
    data,
    option,
    training,
)

EXAMPLES = [
    "bothways pretrain texts/ --size mini --minutes 20 --out my-bert",
    "bothways pretrain my-corpus --steps 100000 --batch-tokens 32768 --out my-bert",
    "bothways pretrain clinical.jsonl.gz --base bert-base-uncased --epochs 1 --out clinical-bert",
    "bothways pretrain --from my-bert/run.json --seed 1 --out my-second-bert",
]


def pretrain(
    corpus: Source,
    *,
    text: Text = "text",
    max_length: MaxLength = 128,
    tokenizer: Annotated[
        str | None, data("--tokenizer", "FOLDER", "What makes the tokens; else one is trained.")
    ] = None,
    vocab_size: Annotated[int, data("--vocab-size", "N", "Of the tokenizer that is trained.")] = 30_000,
    lowercase: Annotated[bool, data("--uncased/--cased", None, "Whether it makes letters lower case.")] = True,
    base: Annotated[str | None, option("Model", "--base", "MODEL", "A model to continue with.")] = None,
    family: Annotated[str, option("Model", "--family", "NAME", "See: bothways families")] = "bert",
    size: Annotated[str, option("Model", "--size", "NAME", "A published size of the family.")] = "mini",
    dropout: Dropout = None,
    again: From = None,
    objective: Annotated[str, training("--objective", "NAME", "mlm, or mlm+nsp.")] = "mlm+nsp",
    mask_rate: Annotated[float, training("--mask-rate", "SHARE", "Share of the tokens to guess.")] = 0.15,
    minutes: Minutes = None,
    steps: Steps = None,
    epochs: Annotated[float | None, training("--epochs", "N", "Passes over the corpus; one.")] = None,
    batch_tokens: BatchTokens = 4096,
    micro_tokens: MicroTokens = 16_384,
    optimizer: Annotated[
        str | None, training("--optimizer", "NAME", "adamw or muon; muon from random weights.")
    ] = None,
    learning_rate: LearningRate = None,
    weight_decay: WeightDecay = 0.01,
    warmup: Warmup = 0.1,
    evaluate_every: EvaluateEvery = 0.1,
    seed: Seed = 0,
    precision: PrecisionName = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    out: Out,
    resume: Resume = True,
    overwrite: Overwrite = False,
    save_minutes: SaveMinutes = 5.0,
    tensorboard: TensorBoard = False,
    json: Json = False,
) -> None:
    """Pre-train an encoder on raw text, or continue with one; a run that was interrupted goes on where it stopped."""
    settings = dict(locals())
    import bothways as bw

    for own in ("corpus", "again", "threads", "json"):
        del settings[own]
    result = bw.pretrain(output.one(corpus), **settings)
    figures = {"out": result.out, "steps": result.history.steps, "seconds": result.history.seconds, **result.scores}
    if json:
        output.as_json(figures)
        return
    output.facts(figures)
    output.line(f'\nNext: bothways fill {out} "a sentence with a [MASK]"')
    output.line(f"      bothways finetune classify train.csv --base {out} --out my-classifier")
