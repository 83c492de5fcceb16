"""Sentence vectors: how tokens become one, what each objective teaches, and what reading pairs costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import vectors_quality
from cells import Blocks, Cell, Result, Room
from encoders import encoder, untrained, weights
from figures import difference, markdown, spread
from plots import dots
from probes import SEEDS, rows

TITLE = "6. Sentence vectors"
POOLINGS = ("cls", "mean", "max", "weighted_mean")
LEARNED = ("softmax", "cosine", "triplet", "mnrl", "simcse", "tsdae")
WAYS = ("random", "raw", *LEARNED)
TEXTS = (100, 1_000, 10_000)

TEXT = """An encoder trained as `mlm` of the first table, once more; each objective one epoch over its data (triplets
and in-batch negatives over 14,926 duplicates of Quora, SimCSE and TSDAE over their 13,020 different first texts), with
each way to pool, three seeds. SimCSE, which lives on it, has dropout 0.1, all others none, as the encoder was trained.
The cross-encoder reads the mean of a pair's tokens, or its first token through BERT's pooler. Spearman's correlation
of cosines with people's judgements, STS-B's test set; one answer for all pairs has none."""
TOLD = {**vectors_quality.NAMES, "random": "random encoder"}
COST = """A bi-encoder reads every text once, a cross-encoder every pair: tokens to read to compare all texts with each
other, at STS-B's 14 tokens a text."""


def cells() -> Iterator[Cell]:
    """Raw vectors, all objectives with all poolings, and the cross-encoder."""
    for what in WAYS:
        for pooling in POOLINGS:
            for seed in SEEDS if what != "raw" else SEEDS[:1]:
                yield Cell(f"{what}, {pooling}: seed {seed}", partial(learned, what, pooling, seed))
    yield Cell("TF-IDF: cosines", by_words)
    for pooling in ("cls", "mean"):
        for seed in SEEDS:
            yield Cell(f"cross, {pooling}: seed {seed}", partial(learned, "cross", pooling, seed))


def learned(what: str, pooling: str, seed: int, room: Room) -> Result:
    """One objective with one pooling."""
    folder = room.work / "vectors"
    folder.mkdir(parents=True, exist_ok=True)
    base, what = (random(seed, room), "raw") if what == "random" else (str(encoder(room, "mlm")), what)
    cell = vectors_quality.Cell(base, what, pooling, seed, examples=None, steps=None, epochs=1, dev=1379)
    if what == "triplet":
        room.made("vectors/mined", lambda _: mine(cell, room), sign="done")
    found = vectors_quality.run(cell, folder, room.data)
    told = {name: value for name, value in found.items() if name not in ("pairs_a_second", "trained")}
    return told | {"encoder": weights(Path(base))}


def random(seed: int, room: Room) -> str:
    """The same encoder with random weights."""
    return str(
        room.made(f"vectors/random-{seed}", lambda out: untrained(encoder(room, "mlm"), seed).save(out), "config.json")
    )


def by_words(room: Room) -> Result:
    """The cosines of words that two texts share, by TF-IDF."""
    import numpy as np
    from scipy.stats import spearmanr
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, test = (rows(room, f"stsb/{split}") for split in ("train", "test"))
    weigh = TfidfVectorizer(sublinear_tf=True).fit([row[f"text_{side}"] for row in train for side in "ab"])
    a, b = (weigh.transform([row[f"text_{side}"] for row in test]) for side in "ab")
    cosines = np.asarray(a.multiply(b).sum(1)).ravel()
    return {"spearman": float(spearmanr(cosines, [row["score"] for row in test]).statistic)}


def mine(cell: vectors_quality.Cell, room: Room) -> None:
    """The texts that do not belong, once for all poolings and seeds."""
    import bothways as bw

    folder = room.work / "vectors"
    train = vectors_quality.rows(cell, folder, room.data)
    vectors_quality.mined(cell, bw.load(cell.base), train, folder)
    (folder / "mined").mkdir(exist_ok=True)
    (folder / "mined" / "done").touch()


def scores(found: Mapping[str, Result], what: str, pooling: str, figure: str = "spearman") -> list[float]:
    """The seeds that are there."""
    names = [f"{what}, {pooling}: seed {seed}" for seed in SEEDS]
    return [found[name][figure] for name in names if name in found]


def page(found: Mapping[str, Result]) -> Blocks:
    """Correlations, how vectors lie, and what comparing costs."""
    told = TOLD
    body = [[told[what], *(spread(scores(found, what, pooling)) for pooling in POOLINGS)] for what in WAYS]
    if "TF-IDF: cosines" in found:
        body.append(["TF-IDF, cosine of words", f"{found['TF-IDF: cosines']['spearman']:.3f}", "", "", ""])
    body.append([told["cross"], *(spread(scores(found, "cross", pooling)) for pooling in POOLINGS)])
    lie = [
        [told[what], *(spread(scores(found, what, "mean", figure)) for figure in ("mean_cosine", "uniformity"))]
        for what in WAYS
    ]
    panels = {pooling: {told[what]: scores(found, what, pooling) for what in (*WAYS, "cross")} for pooling in POOLINGS}
    picture = dots(
        "vectors",
        panels,
        "Spearman of each objective with each pooling, seed by seed; a stroke is the mean",
        alike=True,
    )
    parts = [TEXT, markdown(["learned", *POOLINGS], body), claims(found), picture]
    parts += [markdown(["learned, mean", "cosine of random pairs", "uniformity"], lie), COST]
    costs = [[f"{count:,}", f"{14 * count:,}", f"{14 * count * (count - 1):,}"] for count in TEXTS]
    return [*parts, markdown(["texts", "bi-encoder", "cross-encoder"], costs)]


def claims(found: Mapping[str, Result]) -> str:
    """The mean against the first token, over all objectives and seeds."""
    pairs = {}
    for what in LEARNED:
        mean, cls = scores(found, what, "mean"), scores(found, what, "cls")
        if len(mean) != len(SEEDS) or len(cls) != len(SEEDS):
            return ""
        pairs[what] = list(zip(mean, cls, strict=True))
    told = str(difference(pairs)).replace("by task", "by objective")
    return f"The mean beside the first token, in points over {len(pairs)} objectives and {len(SEEDS)} seeds: {told}."
