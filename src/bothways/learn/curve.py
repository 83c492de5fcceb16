"""How a score grows with the number of examples: the same fine-tuning on an eighth, a quarter, half and all of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.learn.finetune import Finetuned, finetune
from bothways.learn.folds import Within
from bothways.learn.group import (
    Record,
    again,
    check_count,
    finished,
    note_metrics,
    own_settings,
    results_of,
    run_once,
)
from bothways.learn.processes import refuse_several
from bothways.learn.report import leave_report
from bothways.learn.runs import check_out
from bothways.learn.tasks import measured_on
from bothways.learn.tasks.protocol import Data, Task
from bothways.learn.tuning.start import choose, with_dev
from bothways.paths import as_path
from bothways.progress import say
from bothways.run.model import Model


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    Attributes:
        points: Plain data, the smallest share first: ``share``, ``examples``, the task's metrics on the dev set.
        finetuned: What came of all examples; with a folder it is the folder's own run.
    """

    points: list[dict[str, Any]]
    finetuned: Finetuned


def learning_curve(
    task: str,
    *,
    base: str | Path | Model,
    train: Any,
    dev: Any = None,
    halvings: int = 3,
    out: str | Path | None = None,
    metric: str | None = "best",
    seed: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Curve:
    """Fine-tunes on ever larger parts of the training data, each holding the one before, and scores all on one dev set.

    If the curve still rises at its end, more labels would help. The parts are made by the task's own way of splitting,
    seeded, so classes keep their shares.

    Args:
        task: As in `finetune`.
        base: A model, its folder, or a hub id.
        train: Labelled rows.
        dev: The same; None holds out a tenth of `train`.
        halvings: How often the data are halved: 3 gives an eighth, a quarter, half, and all.
        out: The folder of the run on all examples; the others are in ``out/curve``. ``metrics.json`` gets the points.
        metric: What the best weights of each are told by.
        seed: Of parts and runs.
        overwrite: Whether other runs in `out` are thrown away.
        settings: All else that `finetune` takes. Epochs that suit the number of examples suit each part's.

    Raises:
        BothwaysError: As `finetune`; or `out` holds runs with other settings.
    """
    refuse_several("A learning curve")
    check_count("halvings", halvings, 1)
    chosen, _, _ = choose(task, own_settings(settings), metric, settings.get("few_shot", False))
    given: Any = train if isinstance(train, Data) else chosen.read(train)
    train_data, dev_data = with_dev(chosen, given, dev, seed)
    chosen, _ = measured_on(chosen, dev_data)
    shared = {"metric": metric, "seed": seed, **settings}
    folder = None if out is None else as_path(out)
    going_on = folder is not None and not overwrite and (folder / "curve" / "run.json").exists()
    if folder is not None and not going_on:
        check_out(folder, overwrite=overwrite, resume=settings.get("resume", True), reads=(base, train, dev))
        if overwrite:
            shutil.rmtree(folder / "curve", ignore_errors=True)
    record = Record(folder and folder / "curve", task, shared, base, (train, dev), (train_data, dev_data))
    record.begin(False, settings.get("resume", True))
    within: Any = Within(chosen, train_data)
    points = []
    for place, part in enumerate(halves(chosen, train_data, halvings, seed)):
        times = 2 ** (halvings - place)
        say(f"learning curve: one {times}th of the examples" if times > 2 else "learning curve: half of the examples")
        made = run_once(within, record.folder(f"share-{times}"), base=base, train=part, dev=dev_data, **shared)
        points.append({"share": 1 / times, "examples": len(part), **results_of(chosen, made.results)})
    say("learning curve: all examples")
    dev = None if dev is None else again(dev, dev_data)
    anew = overwrite or (going_on and finished(Path(out or "")) is not None)  # ended before its points were noted
    whole = finetune(task, base=base, train=again(train, given), dev=dev, out=out, overwrite=anew, **shared)
    points.append({"share": 1.0, "examples": len(train_data), **results_of(chosen, whole.scores)})
    if folder is not None:
        note_metrics(folder, curve=points)
        shutil.rmtree(folder / "curve")
        if settings.get("report", True):
            leave_report(folder)
    return Curve(points, whole)


def halves(task: Task, data: Data, halvings: int, seed: int) -> list[Data]:
    """Parts of some data, the smallest first, each within the next: halved again and again as the task splits."""
    parts: list[Data] = []
    left = data
    for _ in range(halvings):
        left, _rest = task.split(left, 0.5, seed)
        parts.insert(0, left)
    return parts
