"""What each part of the fine-tuning recipe gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
from cells import Blocks, Cell, Result, Room, results
from figures import NOTHING, difference, markdown, spread
from finetune_sides import read_rows
from plots import dots
from probes import NEVER, SEEDS, rows

from tables.tasks import EXAMPLES, FEWER, TASKS, best, one_score, written

TITLE = "5. What each trick gives"
ON = ("sst2", "rte", "conll2003")
RATE, EPOCHS = 1e-4, 3
PLAIN = "plain"
GIVEN = {"epochs": EPOCHS, "learning_rate": RATE, "head_rate": 1.0, "dropout": 0.1}
TRICKS: dict[str, dict[str, Any]] = {
    PLAIN: {},
    "CRF": {"crf": True},  # taggers only
    "SiFT": {"adversarial": "sift"},
    "FGM": {"adversarial": "fgm"},
    "R-Drop": {"r_drop": 1.0},
    "moving average 0.9": {"average": 0.9},
    "moving average 0.99": {"average": 0.99},
    "layer-wise decay 0.8": {"layer_decay": 0.8, "learning_rate": 3 * RATE},
    "top layer anew": {"reinit_layers": 1},
    "head thirty times as fast": {"head_rate": 30.0},
    "the mean is read": {"reads": "mean"},
    "LoRA, rank 8": {"lora": 8, "learning_rate": 30 * RATE, "reads": "mean"},
    "frozen encoder": {"freeze": True, "learning_rate": 100 * RATE, "reads": "mean"},
}
ONLY = {"CRF": ("conll2003",), "the mean is read": ("sst2", "rte")}
"""Tasks of tricks that are not for all: taggers read every token."""
FEW, OF, WAYS = (8, 16, 64), ("agnews", "trec"), ("TF-IDF", "vectors, solved", "plain", "few-shot")

TEXT = f"""all-MiniLM-L6-v2, {EXAMPLES:,} examples ({FEWER:,} of RTE), {EPOCHS} epochs, dropout 0.1, three seeds, mean
and deviation; the last weights are scored once. Rates are those that suit the trick: {RATE:g} for encoder and head
alike, three times that for the top layer where rates decay downwards, thirty times that for LoRA, a hundred times for
the head of a frozen encoder. What learns neither the encoder nor its pooler reads the mean of the tokens, as the base
was trained to be read; the row that reads it alone shows what of their scores is due to that. FGM and R-Drop compute
every step twice and SiFT three times, which other tricks could spend on epochs. An average with 0.9 is over some ten
steps, with 0.99 over a hundred, more than half of these runs. p is of a sign-flip test over tasks and seeds together;
three tasks are too few to say what others would show."""
FEW_TEXT = """With 8, 16 and 64 examples a class: TF-IDF with logistic regression; logistic regression of the encoder's
vectors as they are; plain fine-tuning (20 epochs, steps of 8, the mean of the tokens); and `few_shot`, which learns
from pairs of examples and solves the classifier (SetFit's idea, Tunstall et al. 2022). Three draws of the examples.
The most frequent class alone has 0.25 of AG News and 0.19 of TREC."""


def cells() -> Iterator[Cell]:
    """Every trick on every task, then few examples."""
    for trick in TRICKS:
        for name in ONLY.get(trick, ON):
            for seed in SEEDS:
                yield Cell(f"{trick}: {name}, seed {seed}", partial(tried, trick, name, seed))
    for name in OF:
        for count in FEW:
            for seed in SEEDS:
                for way in WAYS:
                    yield Cell(f"{way}, {count} a class: {name}, seed {seed}", partial(few, way, count, name, seed))


def tried(trick: str, name: str, seed: int, room: Room) -> Result:
    """One fine-tuning."""
    import bothways as bw

    task, own = TASKS[name], dict(TRICKS[trick])
    if task.kind == "tag":
        own.pop("reads", None)
    tuned = bw.finetune(
        task.kind,
        base=room.models["minilm"],
        train=written(room, task.train, task.examples),
        dev=written(room, task.test, task.most),
        seed=seed,
        metric=None,
        evaluate_every=NEVER,
        report=False,
        **GIVEN | {"max_length": task.length} | task.own | own,
    )
    return {"score": float(tuned.scores[task.metric]), "metric": task.metric}


def few(way: str, count: int, name: str, seed: int, room: Room) -> Result:
    """One classifier of few examples."""
    from sklearn.linear_model import LogisticRegression

    import bothways as bw
    from bothways.learn.baselines import tfidf_logistic

    task = TASKS[name]
    train, test = drawn(rows(room, task.train), count, seed), written(room, task.test, task.most)
    if way in ("TF-IDF", "vectors, solved"):
        asked, classes = read_rows(test), sorted({row["label"] for row in train})
        texts, told = ([row["text"] for row in each] for each in (train, asked))
        learned = [classes.index(row["label"]) for row in train]
        if way == "TF-IDF":
            guesses = tfidf_logistic(texts, learned, told)
        else:
            vectors = bw.load(room.models["minilm"]).embed
            guesses = LogisticRegression(max_iter=1000).fit(vectors(texts), learned).predict(vectors(told))
        right = [classes[int(guess)] == row["label"] for guess, row in zip(guesses, asked, strict=True)]
        return {"score": float(np.mean(right)), "metric": "accuracy"}
    own: dict[str, Any] = {"few_shot": True}
    if way == PLAIN:
        own = {"epochs": 20, "batch_size": 8, "learning_rate": RATE, "reads": "mean", "evaluate_every": NEVER}
    tuned = bw.finetune(
        "classify",
        base=room.models["minilm"],
        train=train,
        dev=test,
        seed=seed,
        metric=None,
        report=False,
        label="label",
        **own,
    )
    return {"score": float(tuned.scores["accuracy"]), "metric": "accuracy"}


def drawn(every: list[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """So many examples of each class."""
    of_class: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for place in np.random.default_rng(seed).permutation(len(every)):
        if len(of_class[every[place]["label"]]) < count:
            of_class[every[place]["label"]].append(every[place])
    return [row for label in sorted(of_class) for row in of_class[label]]


def scores(found: Mapping[str, Result], row: str, name: str) -> list[float]:
    """The seeds that are there."""
    names = [f"{row}: {name}, seed {seed}" for seed in SEEDS]
    return [found[each]["score"] for each in names if each in found]


def page(found: Mapping[str, Result]) -> Blocks:
    """Both tables and their pictures."""
    body = []
    for trick in TRICKS:
        every = [f"{trick}: {name}" for name in ONLY.get(trick, ON)]
        told = None if trick == PLAIN else above(found, {one: one.replace(trick, PLAIN, 1) for one in every})
        body.append([trick, *(spread(scores(found, trick, name)) for name in ON), told or NOTHING])
    beside = results("tasks")
    randoms = [one_score(beside.get(f"{name}: random encoder")) for name in ON]
    body.append(["random encoder, plain", *randoms, ""])
    body.append(["simple", *(best(beside.get(f"{name}: baselines", {})) for name in ON), ""])
    table = markdown(["", *(TASKS[name].said for name in ON), "points above plain"], body)
    panels = {TASKS[name].said: {trick: scores(found, trick, name) for trick in TRICKS} for name in ON}
    pictures = [dots("tricks", panels, "Each trick's scores on each task, seed by seed; a stroke is their mean")]
    panels = {
        f"{TASKS[name].said.partition(',')[0]}, {count} a class": {
            way: scores(found, f"{way}, {count} a class", name) for way in WAYS
        }
        for name in OF
        for count in FEW
    }
    pictures.append(dots("few-examples", panels, "Accuracy with few examples, draw by draw; a stroke is the mean"))
    heads = ["", *(f"{TASKS[name].said.partition(',')[0]}, {count}" for name in OF for count in FEW)]
    lines = [
        [way, *(spread(scores(found, f"{way}, {count} a class", name)) for name in OF for count in FEW)] for way in WAYS
    ]
    few_table = markdown(heads, lines)
    every = [f"few-shot, {count} a class: {name}" for name in OF for count in FEW]
    beside = {way: above(found, {one: one.replace("few-shot", way, 1) for one in every}) for way in WAYS[:-1]}
    told = "; ".join(f"{points} points above {way}" for way, points in beside.items() if points)
    said = f"`few_shot` over all draws: {told}." if told else ""
    return TEXT if table else "", table, pictures[0], FEW_TEXT if few_table else "", few_table, said, pictures[1]


def above(found: Mapping[str, Result], others: Mapping[str, str]) -> str:
    """How far cells are above others, seed by seed; nothing until all are there."""
    pairs = {}
    for one, other in others.items():
        both = [(found.get(f"{one}, seed {seed}"), found.get(f"{other}, seed {seed}")) for seed in SEEDS]
        if not all(ours and theirs for ours, theirs in both):
            return ""
        pairs[one] = [(ours["score"], theirs["score"]) for ours, theirs in both if ours and theirs]
    return str(difference(pairs) or "")
