"""Tasks, a file each: what is learned from labelled rows."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError, closest

if TYPE_CHECKING:
    from bothways.learn.tasks.protocol import Data, Task

_WHERE = {
    "classify": ("classify", "Classify"),
    "pairs": ("pairs", "Pairs"),
    "regress": ("regress", "Regress"),
    "tag": ("tag", "Tag"),
    "answer": ("answer", "AnswerQuestions"),
    "choose": ("choose", "Choose"),
    "rerank": ("rerank", "Rerank"),
    "sparse": ("sparse", "Sparse"),
    "late": ("late", "Late"),
    "embed": ("embed", "Embed"),
}
"""For each name on the command line the file and the class; a new task is one file and one line here."""
TASKS = tuple(_WHERE)


def task_kind(name: str) -> type:
    """The class of a task.

    Raises:
        BothwaysError: There is no such task.
    """
    if name not in _WHERE:
        raise BothwaysError(f"there is no task {name!r}; there are {', '.join(TASKS)}{closest(name, TASKS)}")
    module, kind = _WHERE[name]
    made: type = getattr(importlib.import_module(f"bothways.learn.tasks.{module}"), kind)
    return made


def settings_of(name: str) -> tuple[str, ...]:
    """The names of a task's own settings."""
    return tuple(each.name for each in fields(task_kind(name)))


def make_task(name: str, given: Mapping[str, Any]) -> Task:
    """A task with the settings that are its own; None leaves a setting as it is, what it does not have is left out.

    Raises:
        BothwaysError: There is no such task, or a setting does not do.
    """
    kind = task_kind(name)
    own = {each.name for each in fields(kind)}
    made: Task = kind(**{key: value for key, value in given.items() if key in own and value is not None})
    return made


def metric_of(task: Task, metric: str | None) -> str | None:
    """The metric by its name; ``"best"``: the task's first; None for ``"none"``, which can be typed.

    Raises:
        BothwaysError: The task is not measured by it.
    """
    best = {"best": task.metrics[0], "none": None}.get(str(metric), metric)
    if best is not None and best not in task.metrics:
        near = closest(best, task.metrics)
        raise BothwaysError(f"{task.name} is not measured by {best!r}; its metrics are {', '.join(task.metrics)}{near}")
    return best


def measured_on(task: Task, data: Data, metric: str | None = None) -> tuple[Task, str | None]:
    """The task as it judges some data, and the metric by its name; other metrics may suit other forms of data.

    Raises:
        BothwaysError: The task cannot judge such data, or is not measured by the metric there.
    """
    judge: Task = task.judged_on(data) if hasattr(task, "judged_on") else task
    return judge, metric_of(judge, metric)
