"""Cross-validation: each part of the data is judged once, by a model that learned from all the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.group import Record, check_count, own_settings, results_of, run_once
from bothways.learn.judging.copies import digests
from bothways.learn.processes import refuse_several
from bothways.learn.several import Several, conclude
from bothways.learn.tasks import measured_on
from bothways.learn.tasks.protocol import Data, Examined, Task
from bothways.learn.tuning.start import choose
from bothways.progress import say
from bothways.run.model import Model


def cross_validate(
    task: str,
    *,
    base: str | Path | Model,
    train: Any,
    folds: int = 5,
    out: str | Path | None = None,
    metric: str | None = "best",
    seed: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> Several:
    """Cross-validation: each part of the data is judged once, by a model that learned from all the others.

    The parts hold the classes in equal shares. The answers to all examples are scored together. The model that is kept
    is that of the best fold: it has not seen its fold, so what is fitted after training (temperature, thresholds) is
    fitted on fresh examples, which a model of all examples would not have.

    Args:
        task: As in `finetune`.
        base: A model, its folder, or a hub id.
        train: Labelled rows.
        folds: Into how many parts they are dealt.
        out: The folder: each run in ``fold-0``, ``fold-1`` ..., the best model in ``model``. None keeps all in memory.
        metric: What the best weights of each fold, and the best fold, are told by.
        seed: Of the parts, and of all runs.
        overwrite: Whether other runs in `out` are thrown away.
        settings: All else that `finetune` takes, but no `dev`.

    Raises:
        BothwaysError: As `finetune`; there are too few examples; or `out` holds runs with other settings.
    """
    refuse_several("Cross-validation")
    check_count("folds", folds, 2)
    if settings.pop("dev", None) is not None:
        raise BothwaysError("cross-validation holds out each part of the training data itself: leave dev away")
    chosen, _, best = choose(task, own_settings(settings), metric, settings.get("few_shot", False))
    data: Any = train if isinstance(train, Data) else chosen.read(train)
    chosen, best = measured_on(chosen, data, best)
    by = best or chosen.metrics[0]
    places = deal(data, folds, seed)
    given = {"metric": metric, "seed": seed, **settings}
    record = Record(out, task, given | {"folds": folds}, base, (train, None), (data, None))
    record.begin(overwrite, settings.get("resume", True))
    within: Any = Within(chosen, data)
    made, parts = [], []
    for number, held in enumerate(places):
        say(f"fold {number + 1} of {folds}")
        rest = np.setdiff1d(np.arange(len(data)), held)
        fold = data.take(held, f"fold {number + 1} of {data.name}")
        learned = data.take(rest, f"{data.name} without fold {number + 1}")
        one = settings | {"metric": metric, "seed": seed}
        made.append(run_once(within, record.folder(f"fold-{number}"), base=base, train=learned, dev=fold, **one))
        parts.append(chosen.examine(made[-1].model(settings.get("device")), fold))
    runs = [
        {"fold": number, **each.results, **results_of(chosen, part.scores)}
        for number, (each, part) in enumerate(zip(made, parts, strict=True))
    ]
    examined = pooled(chosen, data, parts, places)
    return conclude(record, chosen, "folds", by, made, runs, lambda _: examined, data, None)


def deal(data: Data, folds: int, seed: int) -> list[np.ndarray]:
    """Deals examples like cards: every one into one fold, folds of equal size, what is right in equal shares.

    Data that know of `groups()`, a name an example, keep those of one name together, such as questions on one text; of
    others equal texts stay together, so that no fold is asked what another one has learned by heart.

    Returns:
        For each fold the places of its examples, in order.

    Raises:
        BothwaysError: There are fewer examples, or groups, than folds.
    """
    truths = data.truths()
    names: Sequence[Any] = data.groups() if hasattr(data, "groups") else list(digests(data.inputs()))
    members: dict[Any, list[int]] = {}
    for place, name in enumerate(names):
        members.setdefault(name, []).append(place)
    if len(members) < folds:
        what = "examples" if len(members) == len(data) else "groups of examples"
        raise BothwaysError(f"{data.name} has {len(members)} {what}, too few for {folds} folds")
    cards = list(members.values())
    rank = {truth: place for place, truth in enumerate(sorted(set(truths)))}
    mixed = generator("folds", seed).permutation(len(cards))
    order = sorted(mixed.tolist(), key=lambda card: rank[truths[cards[card][0]]])  # stable: mixed within each class
    return [np.sort([place for card in order[fold::folds] for place in cards[card]]) for fold in range(folds)]


class Within:
    """A task on a part of its data: the labels are those of all of them, so that a rare one is not unknown.

    Args:
        task: The task.
        whole: All the data.
    """

    def __init__(self, task: Task, whole: Data) -> None:
        self._task, self._whole = task, whole

    def heads(self, start: Model, train: Data) -> list[Any]:
        """The heads for the labels of all the data."""
        return self._task.heads(start, self._whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def pooled(task: Task, data: Data, parts: Sequence[Examined], places: Sequence[np.ndarray]) -> Examined:
    """What was said of parts of some data, as if all of them had been examined at once.

    Tasks whose scores are no means over examples (F1, correlations) judge all answers together. Of others the scores
    are averaged, a part counting by its examples, which comes to the same.

    Args:
        task: What was asked.
        data: All examples.
        parts: What was said of each part.
        places: For each part the places of its examples in the whole.
    """
    if hasattr(task, "pooled"):
        together: Examined = task.pooled(data, parts, places)
        return together
    order = np.argsort(np.concatenate(places))
    said = [row for part in parts for row in part.rows]
    rows = [said[at] for at in order]
    part_of = np.concatenate([np.full(len(part.rows), number) for number, part in enumerate(parts)])[order]
    within = np.concatenate([np.arange(len(part.rows)) for part in parts])[order]

    def averaged(at: np.ndarray) -> dict[str, float]:
        taken = [within[at[part_of[at] == number]] for number in range(len(parts))]
        told = [(len(each), part.resampled(each)) for each, part in zip(taken, parts, strict=True) if len(each)]
        weights = [count for count, _ in told]
        return {name: float(np.average([one[name] for _, one in told], weights=weights)) for name in task.metrics}

    return Examined(averaged(np.arange(len(rows))) | {"examples": len(rows)}, rows, averaged)
