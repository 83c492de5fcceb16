"""Fine-tuning several times, with other seeds.

Every run has a folder of its own and can be resumed; one that is finished is never made again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways.learn.group import (
    Made,
    Record,
    best_place,
    check_count,
    judge_together,
    note_metrics,
    own_settings,
    results_of,
    run_once,
    spread_of,
    spread_told,
)
from bothways.learn.processes import refuse_several
from bothways.learn.tasks import measured_on
from bothways.learn.tasks.protocol import Data, Examined, Judged, Task
from bothways.learn.tuning.start import choose, with_dev
from bothways.progress import say
from bothways.run.model import Model


@dataclass(frozen=True)
class Several:
    """What came of fine-tuning several times.

    Attributes:
        model: That of the run with the best metric; saved in ``out/model`` if a folder was given.
        scores: With several seeds those of `model` on the dev set; in cross-validation those of all examples together,
            each judged by the model that had not seen it.
        metric: What the best run is told by.
        runs: A dictionary a run, in their order: its ``seed`` or ``fold``, the task's metrics, ``steps``, ``seconds``.
        best: The place of the best run among them.
        spread: For each metric ``mean``, ``std`` (of a sample; 0 for a single run), ``min``, ``max`` over the runs.
        dev: Where the examples came from that were judged.
        rows: The examples beside what was said of them, in their order.
        out: The folder of the runs, or None.
        judgement: What the report says (`bothways.learn.judging.judgement.judge`), or None without one.
    """

    model: Model
    scores: dict[str, Any]
    metric: str
    runs: list[dict[str, Any]]
    best: int
    spread: dict[str, dict[str, float]]
    dev: str
    rows: Sequence[Judged] = field(repr=False)
    out: Path | None
    judgement: dict[str, Any] | None = field(default=None, repr=False)

    def figures(self) -> dict[str, Any]:
        """What ``metrics.json`` holds of it: plain data."""
        return {"metric": self.metric, "best": self.best, "spread": self.spread, "runs": self.runs}


def finetune_seeds(
    task: str,
    *,
    base: str | Path | Model,
    train: Any,
    dev: Any = None,
    seeds: int = 5,
    out: str | Path | None = None,
    metric: str | None = "best",
    seed: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Several:
    """Fine-tunes with several seeds on the same data: how much of a score is luck, and the best model of them.

    Seeds change new heads, the order of examples and dropout (Dodge et al. 2020, "Fine-Tuning Pretrained Language
    Models: Weight Initializations, Data Orders, and Early Stopping"). What is held out is the same for all.

    Args:
        task: As in `finetune`.
        base: A model, its folder, or a hub id.
        train: Labelled rows.
        dev: The same, to tell the best by; None holds out a tenth of `train`.
        seeds: How many. A run with more of them later goes on from those that are there.
        out: The folder: each run in ``seed-0``, ``seed-1`` ..., the best model in ``model``. None keeps all in memory.
        metric: What the best weights and the best run are told by.
        seed: The first; the others follow it.
        overwrite: Whether other runs in `out` are thrown away.
        settings: All else that `finetune` takes.

    Raises:
        BothwaysError: As `finetune`; or `out` holds runs with other settings.
    """
    refuse_several("A run of several seeds")
    check_count("seeds", seeds, 1)
    chosen, _, best = choose(task, own_settings(settings), metric, settings.get("few_shot", False))
    train_data, dev_data = with_dev(chosen, train, dev, seed)
    chosen, best = measured_on(chosen, dev_data, best)
    by = best or chosen.metrics[0]
    given = {"metric": metric, "seed": seed, **settings}
    record = Record(out, task, given | {"seeds": seeds}, base, (train, dev), (train_data, dev_data), free=("seeds",))
    record.begin(overwrite, settings.get("resume", True))
    made = []
    for number in range(seed, seed + seeds):
        say(f"seed {number}, {number - seed + 1} of {seeds}")
        one = settings | {"metric": metric, "seed": number}
        made.append(run_once(task, record.folder(f"seed-{number}"), base=base, train=train_data, dev=dev_data, **one))
    runs = [{"seed": seed + place, **each.results} for place, each in enumerate(made)]
    return conclude(
        record, chosen, "seeds", by, made, runs, lambda model: chosen.examine(model, dev_data), dev_data, train_data
    )


def conclude(
    record: Record,
    task: Task,
    kind: str,
    metric: str,
    made: Sequence[Made],
    runs: list[dict[str, Any]],
    examine: Callable[[Model], Examined],
    data: Data,
    train: Data | None,
) -> Several:
    """Tells the best of some runs, and leaves its model, the figures of all and a report in their folder.

    Args:
        record: Of the runs.
        task: What was learned.
        kind: What they are called, ``"seeds"`` or ``"folds"``.
        metric: What the best is told by.
        made: The runs.
        runs: Their figures.
        examine: What is said of `data`, given the best model.
        data: What was judged.
        train: What was learned from, where it holds none of `data`.
    """
    place, spread = best_place(runs, metric), spread_of(runs, task.metrics)
    model = made[place].model(record.settings.get("device"))
    examined = examine(model)
    record.adopt(made[place])
    judgement = None
    if record.out is not None and record.settings.get("report", True):
        told = spread_told(spread, metric, f"{len(runs)} {kind}")
        judgement = judge_together(record, task, model, examined, data, train, told)
    found = Several(
        model, examined.scores, metric, runs, place, spread, data.name, examined.rows, record.out, judgement
    )
    if record.out is not None:
        note_metrics(record.out, **{kind: found.figures()})
    record.end(results_of(task, examined.scores))
    return found
