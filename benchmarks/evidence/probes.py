"""Tasks that encoders are fine-tuned on to see what they are worth, and the simple baselines of each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from cells import Result, Room
from encoders import weights

SEEDS = (0, 1, 2)
NEVER = 10**9
"""Steps between evaluations: only the end counts here."""


@dataclass(frozen=True)
class Probe:
    """A task.

    Attributes:
        said: What the page calls it.
        task: As `bothways.finetune` calls it.
        train: ``folder/split`` of the data.
        test: What is scored, once, at the end.
        metric: Of those of the task.
        most: Training examples; None for all.
        test_most: Examples that are scored.
        own: Settings of the task.
    """

    said: str
    task: str
    train: str
    test: str
    metric: str
    most: int | None = None
    test_most: int | None = None
    own: dict[str, Any] = field(default_factory=dict)


PROBES = {
    "sst2": Probe(
        "SST-2 from 10,000, accuracy", "classify", "sst2/train", "sst2/dev", "accuracy", 10_000,
    ),
    "sst2-few": Probe(
        "SST-2 from 2,000, accuracy", "classify", "sst2/train", "sst2/dev", "accuracy", 2_000,
        own={"reads": "mean", "learning_rate": 5e-4, "epochs": 4},
    ),
    "trec": Probe("TREC, accuracy", "classify", "trec/train", "trec/test", "accuracy", own={"label": "label"}),
    "sick": Probe("SICK entailment, accuracy", "pairs", "sick/train", "sick/dev", "accuracy", own={"label": "label"}),
    "conll2003-few": Probe(
        "CoNLL-2003 from 2,000, F1", "tag", "conll2003/train", "conll2003/test", "f1", 2_000,
        own={"label": "tags", "learning_rate": 5e-4, "epochs": 4},
    ),
    "conll2003": Probe("CoNLL-2003, F1", "tag", "conll2003/train", "conll2003/test", "f1", own={"label": "tags"}),
    "ud-ewt": Probe("UD-EWT tags, accuracy", "tag", "ud-ewt/train", "ud-ewt/test", "accuracy", own={"label": "tags"}),
}  # fmt: skip


def rows(room: Room, split: str, most: int | None = None) -> list[dict[str, Any]]:
    """Examples of a split; `most` of them, drawn once and for all."""
    with gzip.open(room.data / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        every = [json.loads(line) for line in file]
    if most is None or most >= len(every):
        return every
    return [every[place] for place in np.random.default_rng(0).permutation(len(every))[:most]]


def probe(room: Room, name: str, base: Any, seed: int, **settings: Any) -> Result:
    """Fine-tunes a model or its folder for so many epochs; the last weights are scored on a test set, once."""
    import bothways as bw

    one = PROBES[name]
    options = {
        "epochs": 3,
        "head_rate": 1.0,
        "dropout": 0.1,
        "truncation": "window",
        "evaluate_every": NEVER,
        **one.own,
        **settings,
    }
    tuned = bw.finetune(
        one.task,
        base=base,
        train=rows(room, one.train, one.most),
        dev=rows(room, one.test, one.test_most),
        metric=None,
        report=False,
        seed=seed,
        **options,
    )
    found = {"score": float(tuned.scores[one.metric]), "metric": one.metric, "steps": tuned.history.steps}
    return found | ({"encoder": weights(base)} if isinstance(base, Path) else {})


def baselines(room: Room, name: str) -> Result:
    """What the simple ones reach that learn from the same examples."""
    one = PROBES[name]
    train, test = rows(room, one.train, one.most), rows(room, one.test, one.test_most)
    return simple_ones(one.task, one.own, train, test, one.metric)


def simple_ones(task: str, own: Mapping[str, Any], train: Any, test: Any, metric: str) -> Result:
    """Scores of the most frequent answer, TF-IDF with a linear model, or what suits the task; from all examples.

    Args:
        task: As `bothways.finetune` calls it.
        own: Settings, of which those of the task count.
        train: What is learned from.
        test: What is scored.
        metric: Of those of the task.
    """
    from bothways.learn.tasks import task_kind

    kind = task_kind(task)
    known = {each.name for each in fields(kind)}
    chosen: Any = kind(**{setting: value for setting, value in own.items() if setting in known})
    found = chosen.baselines(chosen.read(train), chosen.read(test))
    return {name: float(judged.scores[metric]) for name, judged in found.items()}
