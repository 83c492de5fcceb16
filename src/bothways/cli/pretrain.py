"""``bothways pretrain``: from raw text to an encoder."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli import output
from bothways.cli.options import (
    AttentionStart,
    BatchTokens,
    DeviceName,
    Dropout,
    EvaluateEvery,
    FamilyOrBase,
    Force,
    From,
    GradientCheckpointing,
    Json,
    LearningRate,
    MaskRate,
    MaxLength,
    MicroTokens,
    Minutes,
    Optimizer,
    Out,
    Overwrite,
    PrecisionName,
    Resume,
    SaveMinutes,
    Schedule,
    Seed,
    Size,
    Source,
    Steps,
    TensorBoard,
    Text,
    Threads,
    Warmup,
    WeightDecay,
    data,
    learned,
    machine,
    option,
    training,
)
from bothways.cli.reading import named_files
from bothways.learn.objectives.choices import (
    GeneratorTables,
    MaskDecoder,
    MaskOrder,
    MaskUnit,
    Parallel,
    Sequences,
    SoftTargets,
)
from bothways.progress import speaks

EXAMPLES = [
    "bothways pretrain texts/ --size mini --minutes 20 --out my-bert",
    "bothways pretrain my-corpus --steps 100000 --batch-tokens 32768 --out my-bert",
    "bothways pretrain clinical.jsonl.gz --base bert-base-uncased --epochs 1 --out clinical-bert",
    "bothways pretrain --from my-bert/run.json --seed 1 --out my-second-bert",
    "torchrun --nproc-per-node 8 -m bothways pretrain my-corpus --size base --out my-bert",
]


def pretrain(
    corpus: Source,
    *,
    text: Text = "text",
    on_corrupt: Annotated[
        Literal["stop", "skip"], data("--on-corrupt", None, "A shard that is not what was prepared: stop, or skip it.")
    ] = "stop",
    max_length: MaxLength = 128,
    tokenizer: Annotated[
        str | None, data("--tokenizer", "FOLDER", "What makes the tokens; else one is trained.")
    ] = None,
    vocab_size: Annotated[int, data("--vocab-size", "N", "Of the tokenizer that is trained.")] = 30_000,
    lowercase: Annotated[bool, data("--uncased/--cased", None, "Whether it makes letters lower case.")] = True,
    base: Annotated[str | None, option("Model", "--base", "MODEL", "A model to continue with.")] = None,
    family: FamilyOrBase = None,
    size: Size = None,
    attention_start: AttentionStart = None,
    dropout: Dropout = None,
    again: From = None,
    objective: Annotated[
        str | None, learned("--objective", "NAMES", "mlm, nsp, sop, rtd, distil, minilm, tinybert, joined by +.")
    ] = None,
    loss_weights: Annotated[
        list[str] | None, learned("--loss-weights", "NAME=NUMBER", "Weight of a loss in their sum; may be repeated.")
    ] = None,
    sequences: Annotated[Sequences, learned("--sequences", None, "How sequences are cut from the text.")] = "blocks",
    mask_rate: MaskRate = None,
    mask_rate_end: Annotated[float | None, learned("--mask-rate-end", "SHARE", "The same at the end.")] = None,
    mask_unit: Annotated[MaskUnit, learned("--mask-unit", None, "What is masked as a whole.")] = "token",
    static_masks: Annotated[
        int | None, learned("--static-masks", "COPIES", "Mask once in so many ways; else anew in every epoch.")
    ] = None,
    mask_order: Annotated[
        MaskOrder | None,
        learned("--mask-order", None, "Each without the others, or one by one; as the family's paper."),
    ] = None,
    mask_decoder: Annotated[
        MaskDecoder | None, learned("--mask-decoder", None, "How masked tokens are guessed; as the family's paper.")
    ] = None,
    generator_size: Annotated[
        float | None, learned("--generator-size", "SHARE", "Of the width of rtd's discriminator; as published.")
    ] = None,
    generator_tables: Annotated[
        GeneratorTables | None, learned("--generator-tables", None, "What it shares; as the family's paper.")
    ] = None,
    keep_generator: Annotated[bool, learned("--keep-generator", None, "Save rtd's generator too.")] = False,
    teacher: Annotated[str | None, learned("--teacher", "MODEL", "Whom to learn from.")] = None,
    start_from_teacher: Annotated[
        bool, learned("--start-from-teacher/--start-random", None, "Whether a student begins with its layers.")
    ] = True,
    temperature: Annotated[float, learned("--temperature", "NUMBER", "Of its soft targets.")] = 2.0,
    soft_targets: Annotated[SoftTargets, learned("--soft-targets", None, "Of which tokens.")] = "all",
    relation_heads: Annotated[
        int | None, learned("--relation-heads", "N", "Into how many minilm cuts queries, keys and values.")
    ] = None,
    teacher_layer: Annotated[
        int | None, learned("--teacher-layer", "N", "The layer that minilm learns from; the last.")
    ] = None,
    teacher_cache: Annotated[
        str | None, learned("--teacher-cache", "FOLDER", "Where its outputs are kept for further epochs.")
    ] = None,
    minutes: Minutes = None,
    steps: Steps = None,
    epochs: Annotated[float | None, training("--epochs", "N", "Passes over the corpus; one.")] = None,
    batch_tokens: BatchTokens = 4096,
    micro_tokens: MicroTokens = 16_384,
    optimizer: Optimizer = None,
    gradient_checkpointing: GradientCheckpointing = False,
    learning_rate: LearningRate = None,
    schedule: Schedule = "linear",
    weight_decay: WeightDecay = 0.01,
    warmup: Warmup = 0.1,
    evaluate_every: EvaluateEvery = 0.1,
    seed: Seed = 0,
    precision: PrecisionName = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    parallel: Annotated[
        Parallel, machine("--parallel", None, "Under torchrun: whole models (ddp), or a part in each process (fsdp).")
    ] = "auto",
    out: Out,
    resume: Resume = True,
    force: Force = False,
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
    result = bw.pretrain(named_files(corpus), **settings)
    if not speaks():
        return
    figures = {"out": result.out, "steps": result.history.steps, "seconds": result.history.seconds, **result.scores}
    if json:
        output.as_json(figures)
        return
    output.facts(figures)
    output.line(f"\nReport: {out / 'report.html'}")
    ways = [f"bothways finetune classify train.csv --base {out} --out my-classifier"]
    if "mlm" in result.model.heads:
        ways.insert(0, f'bothways fill {out} "a sentence with a [MASK]"')
    output.line("Next: " + "\n      ".join(ways))
