"""Runs that belong together: each in a folder of its own, none made twice, their figures side by side."""

from __future__ import annotations

import inspect
import json
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.finetune import finetune
from bothways.learn.keeper import differences
from bothways.learn.record import METRICS
from bothways.learn.runs import as_typed, check_out, check_unread, read_run, write_run
from bothways.learn.settings import LoopSettings
from bothways.learn.tasks.protocol import Data, Examined, Task
from bothways.paths import as_path
from bothways.run.files import new_folder, read_json
from bothways.run.model import Model, load
from bothways.whole import replace_text

NO_EFFECT = (
    *("out", "resume", "force", "overwrite", "report", "tensorboard", "save_minutes", "device"),
    *("train", "dev", "callbacks"),
)
"""Settings that change no number of a run; data are told apart by what they hold."""
_PARTS = ("seed-*", "fold-*", "share-*")
"""The folders of runs that belong together."""
_OF_ALL = ("out", "resume", "overwrite", "report")
"""Settings of runs together, not of each."""


@dataclass(frozen=True)
class Made:
    """One finished run: its metrics, ``steps`` and ``seconds``, and where its model is."""

    results: dict[str, Any]
    folder: Path | None
    kept: Model | None = field(default=None, repr=False)

    def model(self, device: str | None = None) -> Model:
        """Its model."""
        return self.kept if self.kept is not None else load(f"{self.folder}/model", device=device)


def run_once(task: Any, folder: Path | None, **settings: Any) -> Made:
    """Fine-tunes in a folder, unless that was done before; an unfinished run goes on."""
    if folder is not None and (done := finished(folder)) is not None:
        return Made(done, folder)
    settings = {name: value for name, value in settings.items() if name not in _OF_ALL}
    result = finetune(task, out=folder, report=False, **settings)
    results = {name: result.scores[name] for name in result.metrics}
    results |= {"steps": result.history.steps, "seconds": result.history.seconds}
    if folder is None:
        return Made(results, None, result.model)
    return Made(results, folder)


def finished(folder: Path) -> dict[str, Any] | None:
    """The results of a run that is finished; None for one that is not, or was never begun."""
    if not (folder / "run.json").exists():
        return None
    results: dict[str, Any] | None = read_run(folder).get("results")
    return results


def again(source: Any, read: Data) -> Any:
    """What is given to a run that notes where its data came from: files can be read again, all else is there read."""
    return source if as_typed(source) not in (None, "-") else read


def own_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Those settings of a fine-tuning that are the task's, or of `TuningSettings`."""
    known = inspect.signature(finetune).parameters
    return {name: value for name, value in settings.items() if name not in known}


def best_place(runs: Sequence[dict[str, Any]], metric: str) -> int:
    """The place of the run with the best value of a metric, the first of equals."""
    judge = LoopSettings(learning_rate=1.0, steps=1, metric=metric)
    place, best = 0, None
    for at, run in enumerate(runs):
        if judge.improves(run[metric], best):
            place, best = at, run[metric]
    return place


def spread_of(runs: Sequence[dict[str, Any]], metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation (of a sample), least and greatest of each metric over runs."""
    columns = {name: [float(run[name]) for run in runs] for name in metrics}
    return {
        name: {
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else 0.0,
            "min": min(values),
            "max": max(values),
        }
        for name, values in columns.items()
    }


def spread_told(spread: dict[str, dict[str, float]], metric: str, runs: str) -> str:
    """One sentence on the spread of a metric over runs, such as ``"5 seeds"``."""
    told = spread[metric]
    return (
        f"Over {runs} {metric} is {told['mean']:.3f} on average, with a standard deviation of {told['std']:.3f}, from "
        f"{told['min']:.3f} to {told['max']:.3f}."
    )


def note_metrics(out: Path, **more: Any) -> None:
    """Adds plain data to ``out/metrics.json``, which is made if need be."""
    from bothways.learn.judging.judgement import plain

    path = out / METRICS
    known = read_json(path) if path.exists() else {}
    replace_text(path, json.dumps(known | plain(more), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


class Record:
    """What several runs in one folder have in common: ``run.json`` from the beginning, the best model in the end.

    Args:
        out: The folder, or None: then nothing is kept.
        task: The name of the task.
        settings: Of all runs.
        base: The model that they begin with.
        sources: Of training and dev data, as given.
        data: The same, read; without dev data the second is None.
        free: Settings that may be others when runs go on, such as how many there are.
    """

    def __init__(
        self,
        out: str | Path | None,
        task: str,
        settings: dict[str, Any],
        base: str | Path | Model,
        sources: tuple[Any, Any],
        data: tuple[Data, Data | None],
        free: Sequence[str] = (),
    ) -> None:
        self.out = None if out is None else as_path(out)
        self.base = base.name if isinstance(base, Model) else str(base)
        typed = {"base": as_typed(base), "train": as_typed(sources[0]), "dev": as_typed(sources[1])}
        self.settings = {name: value for name, value in settings.items() if name != "callbacks"} | typed
        self._content: dict[str, Any] = {
            "command": f"finetune {task}",
            "settings": self.settings,
            "data": {
                name: each.describe() for name, each in zip(("train", "dev"), data, strict=True) if each is not None
            },
        }
        self._free = free

    def folder(self, name: str) -> Path | None:
        """Where a run goes."""
        return None if self.out is None else self.out / name

    def begin(self, overwrite: bool, resume: bool = True) -> None:
        """Makes sure that the folder holds nothing else, or the same runs, which go on if `resume` allows it.

        Raises:
            BothwaysError: It holds something else.
        """
        if self.out is None:
            return
        if overwrite:
            reads = [self.settings[name] for name in ("base", "train", "dev")]
            parts = self._parts() if (self.out / "run.json").exists() else []
            check_unread(parts, reads)
            check_out(self.out, overwrite=True, reads=reads)
            for path in parts:
                shutil.rmtree(path)
        elif self._begun():
            if not resume:
                raise BothwaysError(f"{self.out} holds other runs: choose another --out or --overwrite, or resume them")
            self._check(read_run(self.out))
        else:
            check_out(self.out)
        self._write(None)

    def _begun(self) -> bool:
        """Whether the folder holds runs; a record of runs of which the first was refused is none."""
        if self.out is None or not (self.out / "run.json").exists():
            return False
        return bool(self._parts()) or finished(self.out) is not None

    def _parts(self) -> list[Path]:
        return [] if self.out is None else [path for pattern in _PARTS for path in self.out.glob(pattern)]

    def adopt(self, best: Made) -> None:
        """Copies the model of the best run to ``model``."""
        if self.out is not None and best.folder is not None:
            adopt_model(best.folder, self.out)

    def end(self, results: dict[str, Any]) -> None:
        """Says that all runs are done, and what came of them."""
        if self.out is not None:
            self._write(results)

    def _check(self, there: dict[str, Any]) -> None:
        here = json.loads(json.dumps(self._content, default=str))
        changed = "; ".join(differences(self._fixed(there), self._fixed(here)).values())
        if changed:
            raise BothwaysError(f"{self.out} holds other runs ({changed}): choose another --out or --overwrite")

    def _fixed(self, content: dict[str, Any]) -> dict[str, Any]:
        """What all runs that share a folder share; of what is free, that it is there."""
        settings = {
            name: value if name not in self._free else "free"
            for name, value in content["settings"].items()
            if name not in NO_EFFECT
        }
        return {"command": content["command"], "data": content["data"], "settings": settings}

    def _write(self, results: dict[str, Any] | None) -> None:
        assert self.out is not None
        write_run(self.out, **self._content, seed=self.settings["seed"], results=results)


def adopt_model(folder: Path, out: Path) -> None:
    """Copies the model of a run to ``out/model``, whole or not at all; what low-rank updates learned beside it."""
    for name in ("model", "adapter"):
        if (folder / name).is_dir():
            with new_folder(out / name, f"the {name}", overwrite=True) as half:
                shutil.copytree(folder / name, half, dirs_exist_ok=True)


def results_of(task: Task, scores: dict[str, Any]) -> dict[str, Any]:
    """The task's metrics among all that was scored."""
    return {name: scores[name] for name in task.metrics}


def check_count(name: str, value: int, least: int) -> None:
    """Raises a BothwaysError if a number of runs is too small."""
    if value < least:
        raise BothwaysError(f"{name} must be {least} or more, not {value}")


def judge_together(
    record: Record, task: Task, model: Model, examined: Examined, data: Data, train: Data | None, note: str
) -> dict[str, Any]:
    """Writes ``metrics.json`` and ``report.html`` of runs that belong together, and the card of the model they gave.

    Args:
        record: Of the runs; their folder has the model in it.
        task: What was learned.
        model: What it gave.
        examined: What was said of `data`.
        data: N labelled examples.
        train: What the model learned from, where it has seen none of `data`.
        note: What the reader has to know of the runs.

    Returns:
        The judgement, as `bothways.learn.judging.judgement.judge` says.
    """
    from bothways.learn.judging.card import write_card
    from bothways.learn.judging.judgement import Before, judge, write_metrics
    from bothways.learn.report import write_judgement

    assert record.out is not None
    out, before = record.out, Before(train, held_out=True)
    judgement = judge(task, model, examined, data, model.truncated, before, record.settings["seed"])
    judgement["model"] = str(out)
    judgement["notes"].insert(0, note)
    write_metrics(out, judgement)
    write_card(out / "model", model, judgement, record.base)
    write_judgement(out, judgement)
    return judgement
