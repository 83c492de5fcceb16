"""Fine-tuning: from an encoder and labelled data to a model that does a job."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bothways.errors import BothwaysError
from bothways.learn import loop
from bothways.learn.again import as_it_was, check_same, finished_run
from bothways.learn.checkpoint import BestWeights, Checkpoint
from bothways.learn.judging.finetuned import Judging
from bothways.learn.objectives.protocol import Together
from bothways.learn.parallel import Alone, Summed
from bothways.learn.processes import here, in_all_processes
from bothways.learn.protocol import Callback, Evaluation, Objective
from bothways.learn.record import METRICS
from bothways.learn.report import leave_report
from bothways.learn.runs import as_typed, check_out, one_at_a_time, throw_away, write_run
from bothways.learn.settings import LoopSettings, check_whole, picked
from bothways.learn.stream import Stream
from bothways.learn.tasks import measured_on, settings_of
from bothways.learn.tasks.protocol import Data, Examined, Task, TaskObjective
from bothways.learn.tuning.apply import before_step, finish_model, wrap_objective
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.start import choose, untrained, with_dev
from bothways.learn.tuning.suited import (
    length_told,
    mean_told,
    recipe_told,
    suited_epochs,
    suited_head_rate,
    suited_length,
    suited_rate,
)
from bothways.model.parts.stack import recompute_layers
from bothways.paths import as_path
from bothways.progress import say
from bothways.run.adapter import Adapter
from bothways.run.files import read_json
from bothways.run.model import Model, load


@dataclass(frozen=True)
class Finetuned:
    """What came of fine-tuning.

    Attributes:
        model: The encoder with its new head; saved in ``out/model`` if a folder was given.
        history: What was logged.
        scores: Of the best weights on the dev set: the task's metrics, and what else it tells.
        dev: Where the dev set came from.
        out: The folder of the run, or None.
        judgement: What the report says (`bothways.learn.judging.judgement.judge`), or None without one.
        adapter: What LoRA learned, which is in the model's weights too; saved in ``out/adapter``. None without LoRA, or
            where the run was finished before.
        metrics: The names of the task's metrics on that dev set.
    """

    model: Model
    history: loop.History
    scores: dict[str, Any]
    dev: str
    out: Path | None
    judgement: dict[str, Any] | None = None
    adapter: Adapter | None = None
    metrics: tuple[str, ...] = ()


@in_all_processes
@one_at_a_time
def finetune(
    task: str | Task,
    *,
    base: str | Path | Model,
    train: Any,
    dev: Any = None,
    out: str | Path | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    micro_tokens: int = 16_384,
    max_length: int | None = None,
    truncation: str = "warn",
    learning_rate: float | None = None,
    schedule: str = "linear",
    warmup: float = 0.1,
    weight_decay: float = 0.01,
    layer_decay: float = 1.0,
    head_rate: float | None = None,
    average: float | None = None,
    dropout: float | None = None,
    gradient_checkpointing: bool = False,
    metric: str | None = "best",
    evaluate_every: float | None = None,
    patience: int | None = None,
    save_minutes: float = 5.0,
    few_shot: bool = False,
    report: bool = True,
    seed: int = 0,
    precision: str = "auto",
    device: str | None = None,
    resume: bool = True,
    force: bool = False,
    overwrite: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
    **own: Any,
) -> Finetuned:
    """Fine-tunes an encoder on labelled data.

    Args:
        task: A name such as ``classify`` or ``embed`` (`bothways.learn.tasks`), or one that is made already.
        base: A model, its folder, or a hub id. It is not changed.
        train: Labelled rows: CSV, TSV, JSONL or Parquet files, frames, lists of dictionaries, data sets, iterators, or
            files of the task's own forms.
        dev: The same, to choose the best weights by; None holds out a tenth of `train`, seeded.
        out: The folder of the run; None keeps everything in memory. An interrupted run in it goes on bit for bit where
            it stopped; a finished one of the same settings and data is read, and nothing is done.
        epochs: Passes over the training data; None takes what suits their number (`bothways.learn.tuning.suited`).
        steps: Optimizer steps, instead of epochs.
        batch_size: Examples in an optimizer step, of all processes together where `torchrun` has started several.
        micro_tokens: Tokens in one forward pass; larger steps are accumulated exactly.
        max_length: The most tokens in a sequence; None takes 384 for `answer`, else 128, or as many as the base takes.
        truncation: What happens to longer texts: ``warn``, ``error``, ``head``, ``head_tail`` or ``window``.
        learning_rate: The highest rate; None takes one that suits the width and what learns.
        schedule: How the rate goes on after the warm-up: ``linear`` or ``cosine`` to zero, or ``constant``.
        warmup: Share of the steps in which the rate rises.
        weight_decay: Of AdamW, on weight matrices.
        layer_decay: What the rate of each layer is of the rate of the layer above it; 1: all learn alike.
        head_rate: How many times the rate the head has; None takes what suits a head that begins anew.
        average: Decay of a moving average of the weights, such as 0.999, which is what is measured and kept; None: the
            weights themselves.
        dropout: Overrides dropout everywhere.
        gradient_checkpointing: Whether layers are computed twice to hold less in memory.
        metric: What the best weights are chosen by, one of the task's metrics; ``"best"`` its first; None, or
            ``"none"``, keeps the last.
        evaluate_every: Steps between evaluations, or a share of all steps if below 1; None: once an epoch.
        patience: Evaluations without a better metric after which training stops.
        save_minutes: Minutes between checkpoints.
        few_shot: Whether the encoder learns from pairs of examples, and the classifier is solved: for 8 to 64 examples
            a class (`bothways.learn.few_shot`). `epochs` and `batch_size` are of pairs then; one epoch suits.
        report: Whether `out` gets ``report.html`` and ``metrics.json``: intervals, baselines, errors.
        seed: All randomness follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        resume: Whether an unfinished run in `out` goes on.
        force: Whether it goes on with other settings too, as far as that does no harm.
        overwrite: Whether another run in `out` is thrown away.
        tensorboard: Whether TensorBoard's files are written too.
        callbacks: Called after each step.
        own: Settings of the task, such as `text` and `label` (`bothways.learn.tasks`), and those of
            `bothways.learn.tuning.settings.TuningSettings`.

    Raises:
        BothwaysError: The data, a setting or the folder does not do; the sentence says which and what to do.
    """
    given = {k: v for k, v in locals().items() if k not in ("callbacks", "train", "dev", "base", "own")} | own
    sources = {"base": as_typed(base), "train": as_typed(train), "dev": as_typed(dev)}
    _check_numbers(given)
    _check_processes(batch_size, sources.values())
    chosen, tuning, best = choose(task, own, metric, few_shot)
    given |= {"task": chosen.name, "metric": metric or "none"}  # as the record is typed again
    asked = given | {name: getattr(chosen, name) for name in settings_of(chosen.name)} | tuning.identity()
    folder, before = None if out is None else as_path(out), None
    if folder is not None:
        ended = here().first and resume and not overwrite and finished_run(folder, f"finetune {chosen.name}", asked)
        before = here().first_says(ended)
    if folder is not None and not before:
        may = here().first and check_out(folder, overwrite=overwrite, resume=resume, reads=sources.values(), aside=True)
        here().first_says(may)  # the others wait: what is thrown away is gone before they look
    start = load(base, device="cpu") if isinstance(base, str | Path) else base
    learns_on = chosen.name == "embed" and start.sentence.stated
    own_length = start.max_length if learns_on else None
    longer = "" if max_length or own_length else length_told(start, suited_length(chosen.name, start.config.longest))
    max_length = given["max_length"] = max_length or own_length or suited_length(chosen.name, start.config.longest)
    train_data, dev_data = with_dev(chosen, train, dev, seed)
    data = {"train": train_data.describe(), "dev": dev_data.describe(), "base": start.parts.fingerprint()}
    if folder is not None and before:
        check_same(folder, before["data"], data)
        judgement = read_json(folder / METRICS) if (folder / METRICS).is_file() else None
        model, history, scores = as_it_was(folder, before, device)
        return Finetuned(model, history, scores, dev_data.name, folder, judgement, metrics=tuple(scores))
    chosen, best = measured_on(chosen, dev_data, best)
    model, inferred = untrained(
        chosen,
        start,
        train_data,
        tuning,
        dropout=dropout,
        max_length=max_length,
        truncation=truncation,
        seed=seed,
        device=device,
    )
    if hasattr(chosen, "check"):
        chosen.check(model, dev_data)
    judging = None
    if report and folder is not None:
        begin = partial(Judging.begin, chosen, model, train_data, dev_data, seed)
        judging = here().in_turn(begin, lambda: None)  # the others wait
    epochs = epochs or (1 if few_shot else suited_epochs(len(train_data)))
    objective, stream, count = _lessons(
        chosen, model, train_data, seed, batch_size, micro_tokens, None if steps is not None else epochs
    )
    anew = not hasattr(chosen, "carry")  # else they go on from the base's
    rate = suited_rate(model.config.width, tuning, layer_decay, learns_on, anew)
    if head_rate is None and anew and not few_shot:  # which solves its head in the end
        given["head_rate"] = suited_head_rate(learning_rate or rate, tuning)
    settings = _settled(given, rate, math.ceil(count * epochs / batch_size), epochs, best)
    recompute_layers(model.encoder, gradient_checkpointing)
    beside = objective.modules() if hasattr(objective, "modules") else {}
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads, **beside}).to(model.device)
    passes = Alone(trained) if here().alone else Summed(trained)
    read = f"{len(train_data):,} examples to learn from, {len(dev_data):,} to check on ({dev_data.name})"
    say(f"{read}; {inferred}{passes.told}")
    say(
        recipe_told(
            settings,
            tuning,
            passes=epochs if steps is None else steps * batch_size / count,
            batch_size=batch_size,
            examples=None if given["epochs"] or steps or few_shot else len(train_data),
            width=None if learning_rate or learns_on else model.config.width,
            learning=(sum(p.numel() for p in trained.parameters() if p.requires_grad), model.parameters),
        )
    )
    for hint in (longer, mean_told(start, model, getattr(chosen, "reads", None))):
        if hint:
            say(hint)
    if folder is not None and here().first:
        throw_away(folder)
    history = loop.train(
        trained,
        wrap_objective(objective if isinstance(objective, Objective) else Together([objective]), tuning),
        stream,
        settings,
        out=folder,
        evaluate=Evaluation(chosen.metrics, lambda: here().first_says(_overall(chosen, model, dev_data))),
        callbacks=callbacks,
        before_step=before_step(model, tuning, trained.parameters()),
        title="Fine-tuning",
        identity=_identity(chosen, given, train_data, dev_data, start, model, tuning),
        resume=resume,
        force=force,
        passes=passes,
    )
    recompute_layers(model.encoder, False)
    adapter = finish_model(model, start, tuning)
    if fitted := chosen.finish(model, dev_data):
        say(fitted)
    examined = chosen.examine(model, dev_data)
    judgement = None
    if folder is not None and here().first:
        typed = given | sources | {"epochs": epochs, "steps": history.planned}
        record = _record(chosen, typed, data, history, examined) | {"asked": asked}
        judgement = _leave(folder, model, adapter, judging, examined, start.name, record)
    return Finetuned(model, history, examined.scores, dev_data.name, folder, judgement, adapter, chosen.metrics)


def _settled(given: dict[str, Any], rate: float, steps: int, epochs: int, metric: str | None) -> LoopSettings:
    """How the loop trains; what was not given is what suits, or once an epoch."""
    total = given["steps"] or steps
    return picked(
        LoopSettings,
        given,
        steps=total,
        learning_rate=given["learning_rate"] or rate,
        evaluate_every=given["evaluate_every"] or max(1, round(total / epochs)),
        metric=metric,
    )


def _identity(
    task: Task, given: dict[str, Any], train: Data, dev: Data, start: Model, model: Model, tuning: TuningSettings
) -> dict[str, Any]:
    """What makes a run this run, beside the settings of the loop."""
    return {
        "task": task.name,
        "few_shot": given["few_shot"],
        "train": train.describe(),
        "dev": dev.describe(),
        "base": start.name,
        "model": model.config.to_dict(),
        "max_length": given["max_length"],
        "truncation": given["truncation"],
        "batch_size": given["batch_size"],
        "own": {name: getattr(task, name) for name in settings_of(task.name)},
        "tuning": tuning.identity(),
    }


def _record(
    task: Task, typed: dict[str, Any], data: dict[str, Any], history: loop.History, examined: Examined
) -> dict[str, Any]:
    """What ``run.json`` tells of a run."""
    return {
        "command": f"finetune {task.name}",
        "settings": typed,
        "data": data,
        "seed": typed["seed"],
        "results": {name: examined.scores[name] for name in task.metrics}
        | {"steps": history.steps, "seconds": history.seconds},
        "history": history.figures(),
    }


def _check_numbers(given: dict[str, Any]) -> None:
    """A number that is given is never taken for one that is not: zero epochs are a mistake."""
    for name in ("epochs", "steps", "max_length", "learning_rate", "head_rate", "evaluate_every"):
        if given[name] is not None and not given[name] > 0:
            raise BothwaysError(f"{name} must be above 0, not {given[name]!r}")
    check_whole(**{name: given[name] for name in ("steps", "max_length", "batch_size", "micro_tokens", "seed")})
    for name, least in (("batch_size", 1), ("micro_tokens", 1), ("seed", 0)):
        if not given[name] >= least:
            raise BothwaysError(f"{name} must be {least} or more, not {given[name]!r}")


def _check_processes(batch_size: int, sources: Collection[Any]) -> None:
    """Refuses what several processes cannot share."""
    count = here().count
    if count > batch_size:
        raise BothwaysError(
            f"a step of {batch_size} examples (batch_size) has none for each of {count} processes: take {count} or "
            "more, or fewer processes"
        )
    if count > 1 and "-" in sources:
        raise BothwaysError(f"standard input cannot be read by {count} processes: keep it in a file first")


def _lessons(
    task: Task, model: Model, train: Data, seed: int, batch_size: int, micro_tokens: int, epochs: int | None
) -> tuple[TaskObjective, Stream, int]:
    """What is learned, the stream that it is learned from, and how many examples an epoch has."""
    examples, objective = task.examples(model, train, seed), task.objective(model, train, seed)
    numbers = task.numbers(examples, seed)
    made = getattr(task, "stream", Stream)
    stream = made(
        examples,
        objective.prepare,
        numbers=numbers,
        batch_size=batch_size,
        micro_tokens=micro_tokens,
        epochs=epochs,
        seed=seed,
    )
    return objective, stream, len(examples) if numbers is None else len(numbers)


def _leave(
    folder: Path,
    model: Model,
    adapter: Adapter | None,
    judging: Judging | None,
    examined: Examined,
    base: str,
    record: dict[str, Any],
) -> dict[str, Any] | None:
    """Writes what a run leaves behind, the checkpoint thrown away last; returns what the report says."""
    model.save(folder / "model", overwrite=True)
    if adapter is not None:
        model.save_adapter(adapter, folder / "adapter", overwrite=True)
    judgement = None if judging is None else judging.end(model, examined, folder, base)
    write_run(folder, **record)
    if judging is not None:
        leave_report(folder)
    Checkpoint(folder).discard()
    BestWeights(folder).discard()  # after the checkpoint, which needs them if it is continued
    return judgement


def _overall(task: Task, model: Model, data: Data) -> dict[str, float]:
    if hasattr(task, "settle"):
        task.settle(model)
    scores = task.examine(model, data).scores
    return {name: scores[name] for name in task.metrics}
