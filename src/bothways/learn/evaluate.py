"""Measuring a fine-tuned model on labelled data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.tasks import TASKS, make_task
from bothways.run.model import Model, load


def task_name(model: Model) -> str:
    """What a model is asked: the task it was fine-tuned for, else what its head is for.

    Raises:
        BothwaysError: It has no head for a task.
    """
    if model.task is not None:
        return model.task
    for kind in model.heads:
        if kind in TASKS:
            return kind
    has = f"its heads: {', '.join(model.heads)}" if model.heads else "it has no heads"
    raise BothwaysError(f"{model.name} was not fine-tuned for a task ({has}); see bothways finetune --help")


def evaluate(
    model: str | Path | Model, data: Any, *, precision: str = "float32", device: str | None = None, **own: Any
) -> dict[str, Any]:
    """Measures a fine-tuned model on labelled data.

    Args:
        model: A model or its folder.
        data: Labelled rows, as `finetune` takes them.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        own: Settings of the task, such as the names of columns.

    Returns:
        The task's metrics, and what else it tells.

    Raises:
        BothwaysError: The model was not fine-tuned for a task, or the data does not do.
    """
    if not isinstance(model, Model):
        model = load(model, precision=precision, device=device)
    task = make_task(task_name(model), own)
    return task.examine(model, task.read(data)).scores
