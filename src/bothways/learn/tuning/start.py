"""What a fine-tuning begins with: a task, its data, and a model with the task's heads."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from bothways.errors import BothwaysError, closest
from bothways.learn.few_shot import FewShot
from bothways.learn.settings import picked
from bothways.learn.tasks import make_task, metric_of, settings_of
from bothways.learn.tasks.protocol import Data, Task
from bothways.learn.tuning.apply import prepare_model
from bothways.learn.tuning.settings import TuningSettings
from bothways.model.families import family
from bothways.run.model import Model

_DEV_SHARE, _DEV_MOST = 0.1, 2000


def choose(
    task: str | Task, own: dict[str, Any], metric: str | None, few_shot: bool = False
) -> tuple[Task, TuningSettings, str | None]:
    """What is learned and how, checked before anything is read.

    Args:
        task: Its name, or a task that is made already.
        own: Settings of the task, and of `TuningSettings`.
        metric: What the best weights are chosen by; ``"best"``: the task's first.
        few_shot: Whether the task is learned from pairs.

    Returns:
        The task, the settings of fine-tuning, and the metric by its name; where the data decide about metrics, as it
        was given (`measured_on`).

    Raises:
        BothwaysError: There is no such task, setting or metric; the sentence has the closest that there is.
    """
    chosen = make_task(task, own) if isinstance(task, str) else task
    known = [*settings_of(chosen.name), *(each.name for each in fields(TuningSettings))]
    for name in own:
        if name not in known:
            raise BothwaysError(f"finetune {chosen.name} has no setting {name!r}{closest(name, known)}")
    if few_shot and not hasattr(chosen, "settle"):
        chosen = cast(Task, FewShot(chosen))
    return chosen, picked(TuningSettings, own), metric if hasattr(chosen, "judged_on") else metric_of(chosen, metric)


def with_dev(task: Task, train: Any, dev: Any, seed: int) -> tuple[Data, Data]:
    """Training data and the data to choose by, read unless they are; without `dev` a tenth is held out, seeded.

    Raises:
        BothwaysError: They cannot be read, or are too few to hold any out.
    """
    train, dev = (
        source if source is None or isinstance(source, Data) else task.read(source) for source in (train, dev)
    )
    if dev is not None:
        return train, dev
    if len(train) < 10:
        raise BothwaysError(f"{train.name} has only {len(train)} examples; give a dev set or more of them")
    return task.split(train, min(_DEV_SHARE, _DEV_MOST / len(train)), seed)


def untrained(
    task: Task,
    start: Model,
    train: Data,
    tuning: TuningSettings,
    *,
    dropout: float | None,
    max_length: int,
    truncation: str,
    seed: int,
    device: Any,
) -> tuple[Model, str]:
    """A copy of the base with the task's heads, as it is before the first step, and a sentence on what was inferred.

    A pooler is added where a head reads it.

    Raises:
        BothwaysError: The base does not take so many tokens, or the data make no task.
    """
    config = start.config
    if config.longest is not None and max_length > config.longest:
        raise BothwaysError(f"max_length is {max_length}, but {start.name} takes at most {config.longest} tokens")
    if dropout is not None:
        config = family(config.family).with_dropout(config, dropout)
    rate = config.dropout if dropout is None else dropout
    heads = [head.derive(dropout=rate) for head in task.heads(start, train)]
    model = Model.random(config, start.tokenizer, heads, seed=seed, device=device)
    model.encoder.load_state_dict(start.encoder.state_dict(), strict=False)
    if hasattr(task, "carry"):
        task.carry(start, model)
    model.max_length, model.truncation, model.task = max_length, truncation, task.name
    inferred = task.begin(model, train)
    prepare_model(model, start, tuning, seed)
    return model, inferred
