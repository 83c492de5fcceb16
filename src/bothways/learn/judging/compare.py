"""Two models on the same examples: is one better, or was it lucky?

Koehn 2004 and Berg-Kirkpatrick et al. 2012 (paired bootstrap); McNemar 1947, in its exact form (Dietterich 1998,
"Approximate Statistical Tests for Comparing Supervised Classification Learning Algorithms").
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.learn.evaluate import task_of
from bothways.learn.judging.bootstrap import LEVEL, by_chance, differing_examples, interval, resample
from bothways.learn.judging.marked import shown
from bothways.learn.tasks import measured_on
from bothways.learn.tasks.protocol import Examined
from bothways.report.judgement_page import figure, said
from bothways.run.model import Model, load


def compare(
    a: str | Path | Model,
    b: str | Path | Model,
    source: Any,
    *,
    show: int = 5,
    seed: int = 0,
    precision: str = "float32",
    device: str | None = None,
    **own: Any,
) -> dict[str, Any]:
    """Compares two fine-tuned models on the same examples.

    Args:
        a: A model or its folder.
        b: Another for the same task.
        source: Labelled rows that neither has learned from.
        show: How many examples of either kind to list that one has right and the other wrong.
        seed: Of the bootstrap's resamples.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        own: Settings of the task, such as the names of columns.

    Returns:
        Plain data: ``sentence``, what is found in words; ``a``, ``b`` and ``difference`` (b minus a): by metric value,
        and ``intervals`` and ``p`` of the differences; ``beyond_chance``, whether that of the first metric is;
        ``mcnemar``: ``only_a``, ``only_b`` (examples that one alone has right) and ``p``, None where credit is not all
        or nothing; ``flips``: ``to_b`` and ``to_a``, examples that one alone does better, most clearly first.

    Raises:
        BothwaysError: The models have different tasks, or one does not know the labels.
    """
    models = [each if isinstance(each, Model) else load(each, precision=precision, device=device) for each in (a, b)]
    tasks = [task_of(model, own) for model in models]
    if tasks[0].metrics != tasks[1].metrics:
        raise BothwaysError(
            f"{models[0].name} was fine-tuned for {tasks[0].name} and {models[1].name} for {tasks[1].name}: they "
            "cannot be compared"
        )
    data = tasks[0].read(source)
    tasks = [measured_on(task, data)[0] for task in tasks]
    found = [task.examine(model, data) for task, model in zip(tasks, models, strict=True)]
    return compared(found[0], found[1], (models[0].name, models[1].name), tasks[0].metrics, data.name, show, seed)


def compared(
    one: Examined,
    other: Examined,
    names: tuple[str, str],
    metrics: tuple[str, ...],
    on: str,
    show: int = 5,
    seed: int = 0,
) -> dict[str, Any]:
    """Compares two judgements of the same examples, as `compare` says."""
    drawn = resample([one, other], metrics, seed=seed)
    differences = drawn[1] - drawn[0]
    values = [{name: float(side.scores[name]) for name in metrics} for side in (one, other)]
    found = {name: values[1][name] - values[0][name] for name in metrics}
    differing = differing_examples(one, other, metrics)
    credits = [np.array([row.credit for row in side.rows]) for side in (one, other)]
    told: dict[str, Any] = {
        "names": list(names),
        "on": on,
        "examples": len(one.rows),
        "metrics": list(metrics),
        "level": LEVEL,
        "a": values[0],
        "b": values[1],
        "difference": found,
        "intervals": {name: interval(differences[:, place], found[name]) for place, name in enumerate(metrics)},
        "p": {
            name: by_chance(differences[:, place], found[name], differing[name]) for place, name in enumerate(metrics)
        },
        "mcnemar": _mcnemar(*credits),
        "flips": {"to_b": _flips(one, other, credits, show), "to_a": _flips(other, one, credits[::-1], show)},
    }
    told["beyond_chance"] = told["p"][metrics[0]] < 1 - LEVEL
    return {"sentence": _sentence(told), **told}


def mcnemar(only_a: int, only_b: int) -> float:
    """How likely so uneven a split of the examples that one of two alone has right is by chance, two-sided, exact."""
    if not only_a + only_b:
        return 1.0
    need("scipy", "torch", "Comparing")
    from scipy.stats import binomtest

    return float(binomtest(only_a, only_a + only_b, 0.5).pvalue)


def _mcnemar(a: np.ndarray, b: np.ndarray) -> dict[str, Any] | None:
    if not np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        return None
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    return {"only_a": only_a, "only_b": only_b, "p": mcnemar(only_a, only_b)}


def _flips(worse: Examined, better: Examined, credits: list[np.ndarray], show: int) -> dict[str, Any]:
    """How many examples the second does better, and those that it does much better."""
    gains = credits[1] - credits[0]
    places = np.argsort(-gains, kind="stable")[: min(show, int((gains > 0).sum()))]
    told = [{**shown(better.rows[place]), "other": worse.rows[place].guess} for place in places]
    return {"count": int((gains > 0).sum()), "shown": told}


def _sentence(told: dict[str, Any]) -> str:
    metric, (a, b) = told["metrics"][0], told["names"]
    difference, (low, high) = told["difference"][metric], told["intervals"][metric]
    scores = (
        f"{said(metric)} {figure(told['a'][metric])} and {figure(told['b'][metric])} on {told['examples']:,} examples"
    )
    if not told["beyond_chance"]:
        return f"There is no difference between {a} and {b} beyond chance: {scores}, p = {told['p'][metric]:.3f}."
    first, ahead = (b, difference) if difference > 0 else (a, -difference)
    low, high = (low, high) if difference > 0 else (-high, -low)
    return (
        f"{first} is better by {figure(ahead)} ({told['level']:.0%} interval {figure(low)} to {figure(high)}), which "
        f"is beyond chance: {scores}, p = {told['p'][metric]:.3f}."
    )
