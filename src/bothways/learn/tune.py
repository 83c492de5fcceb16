"""The search for settings: fine-tune again and again, learn from each trial what to try next, keep the best.

A search that is stopped or killed goes on where it was, inside the trial that was running.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, need
from bothways.learn.finetune import finetune
from bothways.learn.group import (
    NO_EFFECT,
    Record,
    again,
    check_count,
    judge_together,
    note_metrics,
    own_settings,
)
from bothways.learn.processes import refuse_several
from bothways.learn.runs import as_typed
from bothways.learn.tasks import measured_on, task_kind
from bothways.learn.tasks.protocol import Data
from bothways.learn.tuning.search import Choices, Range, Space, read_search
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.start import choose, with_dev
from bothways.learn.tuning.study import Search
from bothways.learn.tuning.suited import suited_epochs, suited_rate
from bothways.paths import as_path
from bothways.progress import say
from bothways.run.model import Model, load

_NOT_SEARCHED = {
    *("task", "base", "train", "dev", "out", "metric", "report", "seed", "resume", "overwrite", "tensorboard"),
    *("callbacks", "own", "evaluate_every", "device", "text", "text_pair", "label"),
}
_EVALUATIONS = 5
"""Evaluations in each trial, at equal shares of its steps, so that trials of different lengths can be compared."""


@dataclass(frozen=True)
class Tuned:
    """What came of a search.

    Attributes:
        model: Of the best trial; saved in ``out/model``.
        settings: What the best trial tried.
        value: Its metric.
        metric: What was searched for.
        scores: Of the model on the dev set.
        trials: A dictionary a trial: ``number``, ``state`` ("complete", "pruned", "fail"), ``value`` or None,
            ``settings``, and ``why`` one failed.
        dev: Where the dev set came from.
        out: The folder; its ``run.json`` repeats the best trial: ``bothways finetune TASK --from OUT/run.json``.
        judgement: What the report says (`bothways.learn.judging.judgement.judge`), or None without one.
    """

    model: Model
    settings: dict[str, Any]
    value: float
    metric: str
    scores: dict[str, Any]
    trials: list[dict[str, Any]]
    dev: str
    out: Path
    judgement: dict[str, Any] | None = field(default=None, repr=False)


def tune(
    task: str,
    *,
    base: str | Path | Model,
    train: Any,
    dev: Any = None,
    out: str | Path,
    trials: int = 20,
    minutes: float | None = None,
    search: Mapping[str, Any] | Iterable[str] | None = None,
    metric: str = "best",
    seed: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Tuned:
    """Searches the settings with which fine-tuning does best on the dev set.

    The best score of many flatters: measure the model on data that the search has not seen.

    Args:
        task: As in `finetune`.
        base: A model, its folder, or a hub id.
        train: Labelled rows.
        dev: The same; None holds out a tenth of `train`, the same in every trial.
        out: The folder: trials while they run, and always the best model so far (``model``, ``run.json``).
        trials: How many, with those of earlier calls; more of them later go on from there.
        minutes: No trial begins that would not end within so many minutes of this call, as long as trials took so far.
        search: What is tried, by name: ``"1e-5:5e-4:log"`` (a range), ``"2,3,5"`` or a list (choices); or a list of
            strings ``NAME=...``. None: the learning rate around what suits the width, epochs and batch size.
        metric: What is searched for.
        seed: Of the proposals, and of every trial.
        overwrite: Whether another search in `out` is thrown away.
        settings: All else that `finetune` takes; the same in every trial.

    Raises:
        BothwaysError: Optuna is not installed, a setting does not do, or `out` holds another search.
    """
    refuse_several("A search for settings")
    check_count("trials", trials, 1)
    if minutes is not None and not minutes > 0:
        raise BothwaysError(f"minutes must be above 0, not {minutes!r}")
    need("optuna", "tune", "Searching for settings")
    chosen, tuning, by = choose(task, own_settings(settings), metric, settings.get("few_shot", False))
    wanted = None if search is None else read_search(search, searchable(task))
    data: Any = train if isinstance(train, Data) else chosen.read(train)
    train_data, dev_data = with_dev(chosen, data, dev, seed)
    chosen, by = measured_on(chosen, dev_data, by)
    if by is None:
        raise BothwaysError(f"a search needs a metric; those of {task} are {', '.join(chosen.metrics)}")
    space = wanted or _suited_space(chosen.name, base, len(train_data), settings, tuning)
    for name in space:
        if name in settings:
            raise BothwaysError(f"{name} is given and searched: do one of them")
    fixed = {"metric": metric, "seed": seed, **settings}
    fixed["evaluate_every"] = settings.get("evaluate_every") or 1 / _EVALUATIONS
    identity = {
        "task": task,
        "train": train_data.describe(),
        "dev": dev_data.describe(),
        "base": base.name if isinstance(base, Model) else as_typed(base),
        "search": {name: str(each) for name, each in space.items()},
        "settings": {k: v for k, v in fixed.items() if k not in NO_EFFECT},
    }
    folder = as_path(out)
    study = Search(folder, space, identity, by, seed, overwrite, reads=(base, train, dev))
    say("searching " + "; ".join(f"{name}: {each}" for name, each in space.items()))
    sources = {"base": base, "train": again(train, data), "dev": None if dev is None else again(dev, dev_data)}
    began = time.monotonic()
    while study.done < trials and not study.over(began, minutes):
        study.trial(task, trials, {**fixed, **sources})
    best = study.best()
    model = load(folder / "model", device=settings.get("device"))
    examined = chosen.examine(model, dev_data)
    judgement = None
    if settings.get("report", True):
        record = Record(folder, task, fixed, base, (train, dev), (train_data, dev_data))
        note = f"The best of {study.done} trials on these very examples: other data will say what it is worth."
        judgement = judge_together(record, chosen, model, examined, dev_data, train_data, note)
    tried, made = best["settings"], study.trials()
    note_metrics(folder, tune={"metric": by, "best": best["number"], "search": identity["search"], "trials": made})
    return Tuned(model, tried, best["value"], by, examined.scores, made, dev_data.name, folder, judgement)


def searchable(task: str) -> dict[str, Any]:
    """The types of all settings of fine-tuning for a task that a search may try, by name."""
    hints = typing.get_type_hints(finetune)
    for kind in (TuningSettings, task_kind(task)):
        known = typing.get_type_hints(kind)
        hints |= {each.name: known[each.name] for each in fields(kind)}
    return {name: hint for name, hint in hints.items() if name not in {*_NOT_SEARCHED, "return"}}


def _suited_space(
    task: str, base: str | Path | Model, examples: int, given: dict[str, Any], tuning: TuningSettings
) -> Space:
    """What is tried where nobody says: rates from a quarter to four times what suits, fewer and more passes."""
    start = base if isinstance(base, Model) else load(base, device="cpu")
    learns_on = task == "embed" and start.sentence.stated
    anew = not hasattr(task_kind(task), "carry")
    rate = suited_rate(start.config.width, tuning, given.get("layer_decay", 1.0), learns_on, anew)
    epochs = suited_epochs(examples)
    space: Space = {
        "learning_rate": Range(rate / 4, rate * 4, log=True),
        "epochs": Choices((max(1, round(epochs * 0.5)), epochs, round(epochs * 1.5))),
        "batch_size": Choices((16, 32)),
    }
    if given.get("steps") is not None or given.get("few_shot"):
        del space["epochs"]
    return {name: each for name, each in space.items() if name not in given}
