"""What is written about a model on labelled data: scores and what they are worth, as plain data for JSON and pages."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.judging.bootstrap import LEVEL, all_right, by_chance, differing_examples, interval, resample
from bothways.learn.judging.calibration import calibration
from bothways.learn.judging.copies import Copies, find_copies, overlap_sentence
from bothways.learn.judging.label_errors import suspected_errors
from bothways.learn.judging.marked import shown
from bothways.learn.judging.strata import by_familiarity, by_length, known_words
from bothways.learn.record import METRICS
from bothways.learn.tasks.protocol import Data, Examined, Task
from bothways.run.model import Model
from bothways.text.truncation import Truncation
from bothways.whole import replace_text

_BASELINE_EXAMPLES, _BASELINE_FEWEST, _BASELINE_LETTERS, _RARE = 100_000, 5_000, 5_000_000, 1_000
"""Baselines learn in seconds from so many examples of two classes, of more classes fewer; from so many letters; each
class is among them unless there are more than `_RARE`."""
_WORST, _DOUBTFUL, _POINTS = 15, 15, 1_000


@dataclass(frozen=True)
class Before:
    """What is known besides the model and the examples it is judged on; all of it may be missing.

    Attributes:
        train: What it learned from.
        zero: What the same model said before its first step.
        copies: What training and test data share; found here when there is `train`.
        held_out: Whether the examples chose the best weights and fitted the temperature, so that scores flatter.
    """

    train: Data | None = None
    zero: Examined | None = None
    copies: Copies | None = None
    held_out: bool = False


def judge(
    task: Task, model: Model, examined: Examined, data: Data, cut: Truncation, before: Before, seed: int = 0
) -> dict[str, Any]:
    """Judges what a model said of labelled examples.

    Args:
        task: What was asked.
        model: Who answered.
        examined: What was answered.
        data: The N examples.
        cut: What was cut of their texts.
        before: What is known of the training.
        seed: Of resamples and samples.

    Returns:
        Plain data, numbers that are not finite as None: the task's scores as `Task.examine` gives them, and besides

        - ``task``, ``model``, ``data``, ``train`` (`Data.describe`), ``metrics`` (names in order), ``level``
        - ``intervals``: by metric ``[low, high]``
        - ``contenders``: the model, the model before training, baselines: ``name``, ``role`` ("model", "before",
          "baseline"), ``metrics``, ``intervals``, ``difference`` of the model to it in the first metric: ``value``,
          ``low``, ``high``, ``p``
        - ``trained``: by class how many training examples it has
        - ``calibration`` (`calibration`), ``lengths`` and ``familiarity`` (groups as in `strata`)
        - ``scatter``: pairs of right and guessed numbers, for regressions
        - ``worst`` and ``doubtful``: examples as in `marked.shown`; ``suspected``: how many are doubtful in all
        - ``copies`` and ``truncation``: counts; ``notes``: what the reader has to know, in sentences
    """
    notes: list[str] = []
    contenders = {"this model": ("model", examined)}
    if before.zero is not None:
        contenders["before training"] = ("before", before.zero)
    if before.train is not None:
        for name, found in _baselines(task, before.train, data, seed, notes).items():
            contenders[name] = ("baseline", found)
    table = _table(contenders, task.metrics, seed)
    metric, suspected = task.metrics[0], suspected_errors(examined)
    told: dict[str, Any] = {
        **examined.scores,
        "task": task.name,
        "model": model.name,
        "examples": len(data),
        "data": data.describe(),
        "train": None if before.train is None else before.train.describe(),
        "metrics": list(task.metrics),
        "level": LEVEL,
        "intervals": table[0]["intervals"],
        "contenders": table,
        "trained": before.train.class_counts() if before.train is not None else {},
        "calibration": calibration(examined, _temperature(model)),
        "lengths": by_length(examined, metric, _lengths(model, data), seed),
        "familiarity": []
        if before.train is None
        else by_familiarity(examined, metric, known_words(data.inputs(), before.train.inputs()), seed),
        "scatter": _scatter(examined, seed),
        "worst": [shown(examined.rows[place]) for place in _worst(examined, suspected[:_DOUBTFUL])],
        "doubtful": [shown(examined.rows[place]) for place in suspected[:_DOUBTFUL]],
        "suspected": len(suspected),
        "copies": None,
        "truncation": _truncation(model, cut),
    }
    if before.train is not None:
        copies = before.copies or find_copies(before.train, data)
        told["copies"] = _copies(copies, examined, task.metrics)
        notes += [f"{sentence}."] if (sentence := overlap_sentence(copies, data.name, len(data))) else []
    if cut.texts:
        notes.append(f"{cut.texts:,} of {cut.all_texts:,} texts were cut at {model.max_length:,} tokens.")
    if before.held_out:
        notes.append(
            "The best weights, and thresholds and temperature where there are any, were chosen by these very examples: "
            "scores on examples that nothing was chosen by will be a little lower (bothways evaluate)."
        )
    judgement: dict[str, Any] = plain(told | {"notes": notes})
    return judgement


def write_metrics(folder: Path, judgement: Mapping[str, Any]) -> Path:
    """Writes ``metrics.json``, whole or not at all.

    Raises:
        BothwaysError: It cannot be written.
    """
    path = folder / METRICS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_text(path, json.dumps(judgement, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    except OSError as error:
        raise BothwaysError(f"{path} cannot be written ({error.strerror})") from None
    return path


def _baselines(task: Task, train: Data, test: Data, seed: int, notes: list[str]) -> dict[str, Examined]:
    """What must be beaten, learned in seconds: from a sample where there is more to learn from than that takes."""
    count, letters = len(train), sum(map(len, train.inputs()))
    classes = max(2, len(train.class_counts()))
    most = min(
        max(_BASELINE_FEWEST, 2 * _BASELINE_EXAMPLES // classes),
        int(count * min(1.0, _BASELINE_LETTERS / max(1, letters))),
    )
    if count > most:
        drawn = generator("baselines", seed).permutation(count)[:most]
        first = {truth: place for place, truth in reversed(list(enumerate(train.truths())))}
        rare = list(first.values()) if len(first) <= _RARE else []  # so that every class stays known
        train = train.take(np.union1d(drawn, np.array(rare, dtype=np.int64)), train.name)
        notes.append(f"The baselines learned from {len(train):,} of {count:,} training examples.")
    try:
        return task.baselines(train, test)
    except BothwaysError as error:
        notes.append(f"There are no baselines: {error}.")
        return {}


def _table(contenders: Mapping[str, tuple[str, Examined]], metrics: tuple[str, ...], seed: int) -> list[dict[str, Any]]:
    """A row a contender; the first is the one that the others are compared with."""
    resampled = resample([found for _, found in contenders.values()], metrics, seed=seed)
    rows: list[dict[str, Any]] = []
    first = next(iter(contenders.values()))[1]
    for number, (name, (role, found)) in enumerate(contenders.items()):
        right = all_right([each.credit for each in found.rows])
        row: dict[str, Any] = {
            "name": name,
            "role": role,
            "metrics": {metric: float(found.scores[metric]) for metric in metrics},
            "intervals": {
                metric: interval(resampled[number, :, place], float(found.scores[metric]), right=right)
                for place, metric in enumerate(metrics)
            },
        }
        if number:
            differences = resampled[0, :, 0] - resampled[number, :, 0]
            value = rows[0]["metrics"][metrics[0]] - row["metrics"][metrics[0]]
            low, high = interval(differences, value)
            differing = differing_examples(first, found, metrics[:1])[metrics[0]]
            p = by_chance(differences, value, differing)
            row["difference"] = {"value": value, "low": low, "high": high, "p": p}
        rows.append(row)
    return rows


def _lengths(model: Model, data: Data) -> np.ndarray:
    """``(N,)`` tokens of each example, uncut."""
    return np.concatenate([part.lengths for part in model.tokenizer.encode_slices(data.inputs())])


def _temperature(model: Model) -> float | None:
    """What the logits of the task's head are divided by."""
    found = [kind["temperature"] for kind in model.decoding.values() if kind.get("temperature")]
    return float(found[0]) if found else None


def _scatter(examined: Examined, seed: int) -> list[list[float]]:
    """Right and guessed numbers of some of the examples; nothing for tasks whose answers are no numbers."""
    if examined.labels or examined.probabilities is not None:
        return []
    places = generator("scatter", seed).permutation(len(examined.rows))[:_POINTS]
    try:
        rows = [examined.rows[place] for place in np.sort(places)]
        return [[float(row.truth), float(row.guess)] for row in rows]
    except ValueError:
        return []


def _worst(examined: Examined, elsewhere: list[int]) -> list[int]:
    """The places of the examples with the least credit, the most confident first, but those told elsewhere."""
    rows = examined.rows
    sure = [0.0 if math.isnan(row.confidence) else row.confidence for row in rows]
    told = set(elsewhere)
    wrong = [place for place, row in enumerate(rows) if row.credit < 1 and place not in told]
    return sorted(wrong, key=lambda place: (rows[place].credit, -sure[place]))[:_WORST]


def _copies(copies: Copies, examined: Examined, metrics: tuple[str, ...]) -> dict[str, Any]:
    """Counts, some of the overlap, and the scores without it."""
    others = np.setdiff1d(np.arange(len(examined.rows)), copies.overlap)
    without = examined.resampled(others) if len(copies.overlap) and len(others) else {}
    return {
        "overlap": len(copies.overlap),
        "otherwise": copies.otherwise,
        "in_train": copies.in_train,
        "in_test": copies.in_test,
        "shown": [{"text": text[:300], "train": one[:100], "test": other[:100]} for text, one, other in copies.shown],
        "without": {metric: without[metric] for metric in metrics if metric in without},
    }


def _truncation(model: Model, cut: Truncation) -> dict[str, Any]:
    counts = {"texts": cut.texts, "tokens": cut.tokens, "all_texts": cut.all_texts, "all_tokens": cut.all_tokens}
    return counts | {"max_length": model.max_length, "policy": model.truncation}


def plain(value: Any) -> Any:
    """Strings, finite numbers, lists and dictionaries of any value."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
