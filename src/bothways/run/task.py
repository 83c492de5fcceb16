"""What a model is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bothways.errors import BothwaysError

if TYPE_CHECKING:
    from bothways.run.runner import Runner

TASK_HEADS = ("classify", "tag", "answer", "choose")
"""Those that tasks are named after; other heads come from pre-training."""


def task_name(model: Runner) -> str:
    """What a model is asked: the task it was fine-tuned for, else what its head is for.

    Raises:
        BothwaysError: It has no head for a task.
    """
    if model.task is not None:
        return model.task
    heads = model.head_configs
    found = next((kind for kind in heads if kind in TASK_HEADS), None)
    if found is not None:
        return found
    for kind in ("late", "sparse"):  # they read a head of pre-training, or their own
        if kind in model.decoding:
            return kind
    has = f"its heads: {', '.join(heads)}" if heads else "it has no heads"
    raise BothwaysError(f"{model.name} was not fine-tuned for a task ({has}); see bothways finetune --help")
