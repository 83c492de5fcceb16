"""What a model is asked of every row of a file, a function a task: from rows to columns of answers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.run.task import task_name
from bothways.use.predictions.shared import Question, Wish

if TYPE_CHECKING:
    from bothways.run.questions import Questions

_WHERE = {
    "classify": "classes",
    "pairs": "classes",
    "zero_shot": "classes",
    "regress": "scores",
    "tag": "tags",
    "answer": "answers",
    "choose": "choices",
    "rerank": "rankings",
    "late": "rankings",
    "sparse": "rankings",
}
"""For each task the file; the function is called as the task."""
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".conll", ".json")


def question(model: Questions, source: Any, wish: Wish) -> Question:
    """What a model is asked of the rows of a source: classes that are named, else what it was fine-tuned for.

    Raises:
        BothwaysError: It was not fine-tuned, a column is absent, or what is wished does not go together.
    """
    task = "zero_shot" if wish.labels else task_name(model)
    if task in ("classify", "pairs") and model.head_configs["classify"].problem == "scores":  # of another library
        task = "regress"
    if task == "embed":
        raise BothwaysError(f"{model.name} makes vectors, which are no predictions: use bothways embed")
    if task not in _WHERE:
        raise BothwaysError(f"{model.name} was fine-tuned for {task!r}, which predict does not know; update Bothways")
    made: Question = getattr(importlib.import_module(f"bothways.use.predictions.{_WHERE[task]}"), task)(
        model, source, wish
    )
    return made
