"""The judging that belongs to a fine-tuning run: begun before its first step, ended after its last."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.learn.judging.card import write_card
from bothways.learn.judging.copies import Copies, warn_of_overlap
from bothways.learn.judging.judgement import Before, judge, write_metrics
from bothways.learn.tasks.protocol import Data, Examined, Task
from bothways.run.model import Model
from bothways.text.truncation import Truncation


@dataclass(frozen=True)
class Judging:
    """What is known before the first step.

    Attributes:
        task: What is learned.
        train: What it is learned from.
        dev: What it is judged on.
        zero: What the untrained model says of `dev`.
        cut: What was cut of its texts.
        copies: What both sets share.
        seed: Of resamples.
    """

    task: Task
    train: Data
    dev: Data
    zero: Examined
    cut: Truncation
    copies: Copies
    seed: int

    @classmethod
    def begin(cls, task: Task, model: Model, train: Data, dev: Data, seed: int) -> Judging:
        """Examines the model before its first step, and warns of examples that are in both sets."""
        copies = warn_of_overlap(train, dev)
        model.truncated = Truncation()
        zero = task.examine(model, dev)
        return cls(task, train, dev, zero, model.truncated, copies, seed)

    def end(self, model: Model, examined: Examined, folder: Path, base: str) -> dict[str, Any]:
        """Judges the trained model; writes ``metrics.json`` into the run's folder and a card beside the saved model.

        Args:
            model: Saved in ``folder/model``.
            examined: What it said of the dev set.
            folder: Of the run.
            base: What it was made from, as it was named.

        Returns:
            The judgement, as `judge` says.

        Raises:
            BothwaysError: The files cannot be written.
        """
        before = Before(self.train, self.zero, self.copies, held_out=True)
        judgement = judge(self.task, model, examined, self.dev, self.cut, before, self.seed)
        judgement["model"] = str(folder)
        write_metrics(folder, judgement)
        write_card(folder / "model", model, judgement, base)
        return judgement
