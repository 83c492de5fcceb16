"""Tasks that encoders are fine-tuned on to see what they are worth, and the simple baselines of each."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from cells import Result, Room

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
    "sst2": Probe("SST-2, accuracy", "classify", "sst2/train", "sst2/dev", "accuracy", 10_000),
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
    options = {"epochs": 3, "dropout": 0.1, "truncation": "window", "evaluate_every": NEVER, **one.own, **settings}
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
    return {"score": float(tuned.scores[one.metric]), "metric": one.metric, "steps": tuned.history.steps}


def baselines(room: Room, name: str, base: Any) -> Result:
    """What the simple ones reach: the most frequent answer, TF-IDF with a linear model, or what suits the task."""
    import bothways as bw

    one = PROBES[name]
    train, test = rows(room, one.train, one.most), rows(room, one.test, one.test_most)
    options = {"steps": 1, "metric": None, "report": False, "truncation": "window", **one.own}
    tuned = bw.finetune(one.task, base=base, train=train, dev=list(islice(test, 50)), **options)
    return contenders(bw.evaluate(tuned.model, test, train=train), one.metric)


def contenders(found: dict[str, Any], metric: str) -> Result:
    """The scores of the simple ones that a model was judged beside."""
    return {
        each["name"]: float(each["metrics"][metric])
        for each in found["contenders"]
        if each["role"] not in ("model", "before")
    }
