"""Every task beside the Trainer of transformers, from the same published encoder."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cells import Blocks, Cell, Result, Room
from figures import NOTHING, difference, interval, markdown, spread
from finetune_sides import Job, make_start, read_rows
from finetune_sides import run as run_side
from plots import dots
from probes import NEVER, SEEDS, rows, simple_ones

TITLE = "4. Tasks, beside transformers"
SIDES = {"bothways": "auto", "transformers": "float32"}
EXAMPLES, FEWER, FEWEST, RATE, EPOCHS, DROPOUT = 2000, 1000, 400, 1e-4, 3, 0.1
"""`FEWER` are learned from where texts are long, `FEWEST` of SQuAD: the Trainer takes half an hour for them."""


@dataclass(frozen=True)
class Task:
    """One data set.

    Attributes:
        said: What the page calls it.
        kind: As `bothways.finetune` calls the task.
        train: ``folder/split``.
        test: What is scored.
        metric: Of the task's.
        length: The most tokens of a sequence.
        own: Settings of the task.
        most: Rows that are scored.
        more: Splits that "all data" takes besides.
        examples: The most that both sides learn from.
        passes: Epochs over all data.
    """

    said: str
    kind: str
    train: str
    test: str
    metric: str
    length: int = 128
    own: dict[str, Any] = field(default_factory=dict)
    most: int | None = None
    more: tuple[str, ...] = ()
    examples: int = EXAMPLES
    passes: int = EPOCHS


LABEL, TAGS = {"label": "label"}, {"label": "tags", "crf": False}
TASKS = {
    "sst2": Task("SST-2, accuracy", "classify", "sst2/train", "sst2/dev", "accuracy", passes=1),
    "cola": Task("CoLA, Matthews", "classify", "cola/train", "cola/dev", "mcc", own=LABEL),
    "mrpc": Task("MRPC, accuracy", "pairs", "mrpc/train", "mrpc/test", "accuracy", own=LABEL, examples=FEWER),
    "rte": Task("RTE, accuracy", "pairs", "rte/train", "rte/dev", "accuracy", 256, LABEL, examples=FEWER),
    "stsb": Task("STS-B, Spearman", "regress", "stsb/train", "stsb/dev", "spearman"),
    "trec": Task("TREC, accuracy", "classify", "trec/train", "trec/test", "accuracy", own=LABEL),
    "agnews": Task(
        "AG News, accuracy", "classify", "agnews/train_10k", "agnews/test", "accuracy", own=LABEL, most=2000,
        examples=FEWER,
    ),
    "sick": Task("SICK entailment, accuracy", "pairs", "sick/train", "sick/dev", "accuracy", own=LABEL),
    "conll2003": Task("CoNLL-2003, F1", "tag", "conll2003/train", "conll2003/test", "f1", own=TAGS),
    "ncbi": Task("NCBI-disease, F1", "tag", "ncbi-disease/train", "ncbi-disease/test", "f1", 160, TAGS),
    "squad": Task(
        "SQuAD, F1", "answer", "squad1/train_head", "squad1/dev", "f1", 384, {"stride": 128}, 1000,
        ("squad1/train_sample",), FEWEST, 2,
    ),
}  # fmt: skip

TEXT = f"""all-MiniLM-L6-v2, {EXAMPLES:,} examples ({FEWER:,} of MRPC, RTE and AG News, {FEWEST} of SQuAD, whose texts
are long), {EPOCHS} epochs, rate {RATE:g}, dropout {DROPOUT:g}: the same weights with the same random head, rows, order
and rates on both sides, three seeds, mean and deviation, the last weights scored once on a split that nothing was
chosen by (2,000 rows of AG News, 1,000 of SQuAD). Bothways computes as it does unless told otherwise (in float32 where
the processor has no bf16, as for most of these), the Trainer in float32; and it learns STS-B's scores brought to mean 0
and deviation 1, the Trainer as they are. The simple one is the best of the most frequent answer and what suits the
task: TF-IDF with a linear model, each word's most frequent tag, the sentence that shares most words with the question.
The random encoder is of the same shape, fine-tuned likewise by Bothways. The last column is Bothways on all the data
there is, in three epochs too, but for one of SST-2 and two of SQuAD, the head thirty times as fast as its encoder, as
it is unless told otherwise. These three have one seed."""
MPNET = """all-mpnet-base-v2 on SST-2, all 67,349 examples, one epoch, rate 2e-5: """


def cells() -> Iterator[Cell]:
    """Both sides of every task, the baselines, all data, and the large encoder."""
    for name in TASKS:
        for seed in SEEDS:
            for side in SIDES:
                yield Cell(f"{name}: {side}, seed {seed}", partial(beside, name, side, seed))
    for name in TASKS:
        yield Cell(f"{name}: baselines", partial(simple, name))
        yield Cell(f"{name}: random encoder", partial(from_random, name))
    for name in TASKS:
        yield Cell(f"{name}: all data", partial(all_data, name))
    yield Cell("sst2: mpnet, all data", large)


def beside(name: str, side: str, seed: int, room: Room) -> Result:
    """One side of one task."""
    task = TASKS[name]
    job = Job(
        side=side,
        precision=SIDES[side],
        task=task.kind,
        base=room.models["minilm"],
        start=str(room.work / "tasks" / f"start-{name}-{seed}"),
        train=written(room, task.train, task.examples),
        dev=written(room, task.test, task.most),
        own=task.own,
        epochs=EPOCHS,
        batch=32 if task.kind != "answer" else 16,
        rate=RATE,
        length=task.length,
        dropout=DROPOUT,
        seed=seed,
        warm=1,
        started=time.time(),
    )
    room.made(f"tasks/start-{name}-{seed}", lambda _: make_start(job), sign="config.json")
    return {"score": run_side(job)["scores"][task.metric], "metric": task.metric}


def simple(name: str, room: Room) -> Result:
    """What the simple ones make of the same examples."""
    task = TASKS[name]
    train, test = written(room, task.train, task.examples), written(room, task.test, task.most)
    return simple_ones(task.kind, task.own, train, test, task.metric)


def from_random(name: str, room: Room) -> Result:
    """The same fine-tuning of random weights."""
    import bothways as bw
    from bothways.run.model import Model

    model, train = bw.load(room.models["minilm"]), written(room, TASKS[name].train, TASKS[name].examples)
    return ours(name, room, Model.random(model.config, model.tokenizer, seed=0), train, EPOCHS, head_rate=1.0)


def plain(task: Task) -> dict[str, Any]:
    """Its settings, with the tagger's own way of decoding."""
    return {key: value for key, value in task.own.items() if key != "crf"}


def all_data(name: str, room: Room) -> Result:
    """Ours on everything."""
    task = TASKS[name]
    train = [row for split in (task.train, *task.more) for row in read_rows(written(room, split, None))]
    out = room.work / "tasks" / f"all-{name}"
    found = ours(name, room, room.models["minilm"], train, task.passes, out)
    return found | {"examples": len(train)}


def ours(name: str, room: Room, base: Any, train: Any, epochs: int, out: Path | None = None, **settings: Any) -> Result:
    """Bothways' fine-tuning of a task, with the rates of this table."""
    import bothways as bw

    task = TASKS[name]
    tuned = bw.finetune(
        task.kind,
        base=base,
        train=train,
        dev=written(room, task.test, task.most),
        out=out,
        epochs=epochs,
        learning_rate=RATE,
        max_length=task.length,
        dropout=DROPOUT,
        metric=None,
        evaluate_every=NEVER,
        report=False,
        **plain(task),
        **settings,
    )
    return {"score": float(tuned.scores[task.metric]), "metric": task.metric}


def large(room: Room) -> Result:
    """The large encoder on the whole of SST-2; interrupted, it goes on the next time."""
    import bothways as bw

    tuned = bw.finetune(
        "classify",
        base=room.models["mpnet"],
        train=written(room, "sst2/train", None),
        dev=written(room, "sst2/dev", None),
        out=room.work / "tasks" / "mpnet-sst2",
        epochs=1,
        learning_rate=2e-5,
        metric=None,
        evaluate_every=NEVER,
        report=False,
    )
    return {"score": float(tuned.scores["accuracy"]), "metric": "accuracy"}


def written(room: Room, split: str, most: int | None) -> str:
    """A file with rows of a split, drawn once; AG News' test without its titles, as its training part has none."""
    path = room.work / "tasks" / f"{split.replace('/', '-')}-{most or 'all'}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        every = rows(room, split, most)
        if split == "agnews/test":
            every = [{"text": row["description"], "label": row["label"]} for row in every]
        part = path.with_suffix(f".{time.monotonic_ns()}")
        part.write_text("".join(json.dumps(row) + "\n" for row in every), encoding="utf-8")
        part.rename(path)
    return str(path)


def best(simple_ones: Result) -> str:
    """The best of the simple ones, and which."""
    if not simple_ones:
        return NOTHING
    name = max(simple_ones, key=lambda name: simple_ones[name])
    return f"{simple_ones[name]:.3f} ({name})"


def one_score(result: Result | None) -> str:
    """The score of a single run."""
    return NOTHING if result is None else f"{result['score']:.3f}"


def page(found: Mapping[str, Result]) -> Blocks:
    """The table, and the whole of it tested at once."""
    body, pairs = [], {}
    for name, task in TASKS.items():
        scores: dict[str, list[float]] = {side: [] for side in SIDES}
        for seed in SEEDS:
            both = [found.get(f"{name}: {side}, seed {seed}") for side in SIDES]
            for side, one in zip(SIDES, both, strict=True):
                scores[side] += [] if one is None else [one["score"]]
            if all(both):
                pairs.setdefault(name, []).append(tuple(one["score"] for one in both))
        whole = found.get(f"{name}: all data")
        told = f"{whole['score']:.3f} ({whole['examples']:,})" if whole else NOTHING
        base = [best(found.get(f"{name}: baselines", {})), one_score(found.get(f"{name}: random encoder"))]
        body.append([task.said, *(spread(scores[side]) for side in SIDES), *base, told])
    panels = {
        "score": {
            f"{task.said}: {side}": [
                found[cell]["score"] for seed in SEEDS if (cell := f"{name}: {side}, seed {seed}") in found
            ]
            for name, task in TASKS.items()
            for side in SIDES
        }
    }
    picture = dots("tasks", panels, "Both sides' scores on each task, seed by seed; a stroke is their mean")
    parts = [
        TEXT,
        markdown(["", "Bothways", "transformers", "simple", "random encoder", "Bothways, all data"], body),
        picture,
    ]
    whole = {name: each for name, each in pairs.items() if len(each) == len(SEEDS)}
    if len(whole) > 1:
        low, high = interval([100 * sum(ours - theirs for ours, theirs in each) / len(each) for each in whole.values()])
        parts.append(
            f"Bothways less transformers, in points over {len(whole)} tasks of {len(SEEDS)} seeds: "
            f"{difference(whole)}, and with 95 % confidence between {low:+.1f} and {high:+.1f} over tasks like these."
        )
    if large_one := found.get("sst2: mpnet, all data"):
        parts.append(f"{MPNET}{large_one['score']:.3f} accuracy on the dev set.")
    return parts
