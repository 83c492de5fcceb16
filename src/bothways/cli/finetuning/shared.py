"""The options that fine-tuning has whatever the task, put together with a task's own."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any, Literal

from bothways.cli import output
from bothways.cli.finetuning.files import Files, Train, follows, learned_from
from bothways.cli.finetuning.several import several
from bothways.cli.options import (
    BatchSize,
    DeviceName,
    Dropout,
    EvaluateEvery,
    Force,
    From,
    GradientCheckpointing,
    Json,
    LearningRate,
    MaxLength,
    MicroTokens,
    Out,
    Overwrite,
    PrecisionName,
    Resume,
    SaveMinutes,
    Schedule,
    Seed,
    Steps,
    TensorBoard,
    Threads,
    TruncationPolicy,
    Warmup,
    WeightDecay,
    data,
    option,
    training,
    written,
)
from bothways.progress import speaks

Adversarial = Literal["sift", "fgm"]
_NOT_SETTINGS = ("files", "train", "again", "threads", "json", "seeds", "folds", "curve")


def _shared(
    files: Files = None,
    *,
    train: Train = None,
    dev: Annotated[str | None, data("--dev", "FILE", "To choose the best weights by; else a tenth of TRAIN.")] = None,
    max_length: MaxLength = None,
    truncation: TruncationPolicy = "warn",
    base: Annotated[str, option("Model", "--base", "MODEL", "The encoder to start from.")],
    dropout: Dropout = None,
    again: From = None,
    epochs: Annotated[int | None, training("--epochs", "N", "Passes over the data; suits their number.")] = None,
    steps: Steps = None,
    batch_size: BatchSize = 32,
    micro_tokens: MicroTokens = 16_384,
    learning_rate: LearningRate = None,
    schedule: Schedule = "linear",
    warmup: Warmup = 0.1,
    weight_decay: WeightDecay = 0.01,
    layer_decay: Annotated[float, training("--layer-decay", "SHARE", "A layer's rate, of that above it.")] = 1.0,
    head_rate: Annotated[
        float | None, training("--head-rate", "TIMES", "The head's rate, as many times that of the encoder; suits it.")
    ] = None,
    average: Annotated[float | None, training("--average", "DECAY", "Keep a moving average, such as 0.999.")] = None,
    gradient_checkpointing: GradientCheckpointing = False,
    freeze: Annotated[bool, training("--freeze", None, "Train the head alone.")] = False,
    unfreeze: Annotated[
        float | None, training("--unfreeze", "SHARE", "Let layers begin one by one over this share of the run.")
    ] = None,
    reinit_layers: Annotated[int, training("--reinit-layers", "N", "Last layers that begin anew.")] = 0,
    mixout: Annotated[float, training("--mixout", "SHARE", "Weights replaced by the base's in each step.")] = 0.0,
    adversarial: Annotated[
        Adversarial | None, training("--adversarial", None, "Disturb embeddings so that it hurts most.")
    ] = None,
    adversarial_size: Annotated[
        float | None, training("--adversarial-size", "X", "How large the disturbance is.")
    ] = None,
    adversarial_weight: Annotated[float, training("--adversarial-weight", "X", "What its loss counts.")] = 1.0,
    r_drop: Annotated[float, training("--r-drop", "WEIGHT", "Make two passes with other dropout agree.")] = 0.0,
    lora: Annotated[int | None, training("--lora", "RANK", "Learn low-rank updates instead of matrices.")] = None,
    lora_alpha: Annotated[float | None, training("--lora-alpha", "X", "Their scale; twice the rank.")] = None,
    lora_targets: Annotated[
        list[str] | None, training("--lora-targets", "NAME", "Matrices that get them: query, value, ...")
    ] = None,
    lora_dropout: Annotated[float, training("--lora-dropout", "SHARE", "Dropout before them.")] = 0.0,
    metric: Annotated[str, training("--metric", "NAME", "The best weights are those by it; none: the last.")] = "best",
    evaluate_every: EvaluateEvery = None,
    patience: Annotated[int | None, training("--patience", "N", "Stop after so many evaluations without gain.")] = None,
    few_shot: Annotated[
        bool, training("--few-shot", None, "Of classify, 8 to 64 texts a class: learn from pairs of them first.")
    ] = False,
    seed: Seed = 0,
    seeds: Annotated[int | None, training("--seeds", "N", "Run N seeds, tell the spread, keep the best.")] = None,
    folds: Annotated[int | None, training("--folds", "K", "Cross-validate: judge each K-th by the others.")] = None,
    curve: Annotated[bool, training("--curve", None, "Also learn from an eighth, a quarter and half.")] = False,
    precision: PrecisionName = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    out: Out,
    report: Annotated[bool, written("--report/--no-report", None, "Write report.html and metrics.json.")] = True,
    resume: Resume = True,
    force: Force = False,
    overwrite: Overwrite = False,
    save_minutes: SaveMinutes = 5.0,
    tensorboard: TensorBoard = False,
    json: Json = False,
) -> None: ...


def command(task: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command of a function whose parameters are the options that a task has besides the shared ones.

    Args:
        task: Its name.
    """

    def made(own: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(own)
        def run(**given: Any) -> None:
            _run(task, given)

        shared, mine = (list(inspect.signature(function).parameters.values()) for function in (_shared, own))
        place = next(n for n, parameter in enumerate(shared) if parameter.name == "max_length")
        parameters = shared[:place] + mine + shared[place:]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {
            name: hint
            for function in (_shared, own)
            for name, hint in typing.get_type_hints(function, include_extras=True).items()
        }
        del run.__wrapped__
        return run

    return made


def _run(task: str, given: dict[str, Any]) -> None:
    """Fine-tunes and prints what came of it."""
    import bothways as bw

    settings = {name: value for name, value in given.items() if name not in _NOT_SETTINGS}
    if given["seeds"] is not None or given["folds"] is not None or given["curve"]:
        several(task, given, settings)
        return
    result = bw.finetune(task, train=learned_from(task, given), **settings)
    if not speaks():
        return
    if given["json"]:
        history = {name: getattr(result.history, name) for name in ("steps", "seconds", "stopped")}
        output.as_json({"out": result.out, "dev": result.dev, **history, **(result.judgement or result.scores)})
        return
    output.line(f"Best weights, scored on {result.dev}:\n")
    (output.judgement if result.judgement else output.scores)(result.judgement or result.scores)
    if result.history.ending:
        output.line(f"\n{result.history.ending}")
    if result.judgement:
        output.line(f"\nReport: {given['out']}/report.html")
    output.line(f"\nNext: {follows(task, given['out'])}")
