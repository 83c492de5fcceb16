"""Words in context: what a layer's vector of a word knows of its sense, and what reading both ways is worth."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import grid
import numpy as np
from cells import Blocks, Cell, Result, Room, results
from encoders import BODY
from figures import NOTHING, markdown
from plots import curves
from probes import rows

TITLE = "8. Words in context"
MODELS = {
    "minilm": "all-MiniLM-L6-v2",
    "mpnet": "all-mpnet-base-v2",
    "mlm": "BERT-mini, as in the first table",
    "random": "BERT-mini, random",
}
TWIN = {"one way": {"body": {**BODY, "attention.kind": "causal"}}}
TASKS = ("conll2003-few",)
BATCH = 256

TEXT = """A word's vector is the mean of its tokens' vectors in a layer; layer 0 is before the first block, and static
vectors are rows of the token table: the word's own, alike in all sentences, or the mean of the whole sentence's.
CoarseWSD-20: a word gets the sense whose mean training vector is nearest (20 nouns, 10,196 test sentences); the share
that is right, mean over the nouns. WiC: whether a word has one sense in two sentences, by a threshold on the cosine
that the training pairs chose; the share of right ones on dev. TF-IDF knows a sense by the words beside it (logistic
regression), and of WiC's sentences what words they share."""
TWIN_TEXT = """The twin of the first table's `mlm` sees only what stands before a token; all else is alike. Masked words
are guessed, and words tagged, three seeds."""


def cells() -> Iterator[Cell]:
    """Both data sets for each model, then the twin."""
    for model in MODELS:
        yield Cell(f"{model}: CoarseWSD-20", partial(senses, model))
        yield Cell(f"{model}: WiC", partial(same, model))
    yield Cell("TF-IDF: CoarseWSD-20", senses_by_words)
    yield Cell("TF-IDF: WiC", same_by_words)
    yield from grid.cells(TWIN, TASKS)


def opened(name: str, room: Room) -> Any:
    """A model whose layers are looked into."""
    from encoders import encoder, untrained

    import bothways as bw

    if name == "random":
        return untrained(encoder(room, "mlm"), 0).to("cpu")
    return bw.load(encoder(room, name) if name == "mlm" else room.models[name], precision="float32", truncation="head")


def word_vectors(model: Any, texts: Sequence[str], spans: Sequence[tuple[int, int]]) -> dict[str, np.ndarray]:
    """The vectors of a word in each text, ``(texts, D)`` for each layer and for both kinds of static ones.

    Args:
        model: The encoder.
        texts: Sentences.
        spans: Where the word stands in each, in characters.
    """
    table = model.encoder.embeddings.tokens.weight.detach()
    found: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(texts), BATCH):
        part = texts[first : first + BATCH]
        coded = model.encode(part, offsets=True)
        states = model.hidden(part, layers=range(model.config.layers + 1))
        for place, (begin, end) in enumerate(pairwise(coded.starts)):
            left, right = coded.offsets[begin:end].T
            covers = (right > left) & (left < spans[first + place][1]) & (right > spans[first + place][0])
            own = np.flatnonzero(covers) if covers.any() else np.zeros(1, int)
            ids = coded.token_ids[begin:end]
            values = {"static, the word": table[ids[own]].numpy(), "static, the sentence": table[ids[1:-1]].numpy()}
            values |= {f"layer {depth}": layer[own] for depth, layer in enumerate(states[place])}
            for name, vectors in values.items():
                found.setdefault(name, []).append(vectors.mean(0))
    return {name: np.stack(vectors) for name, vectors in found.items()}


def unit(vectors: np.ndarray) -> np.ndarray:
    """Of length one."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def senses(name: str, room: Room) -> Result:
    """The nearest sense, layer by layer."""
    model = opened(name, room)
    parts = [rows(room, f"coarsewsd20/{split}") for split in ("train", "test")]
    known, asked = (word_vectors(model, [row["text"] for row in part], [placed(row) for row in part]) for part in parts)
    words = sorted({row["word"] for row in parts[0]})
    of = [{word: np.array([row["word"] == word for row in part]) for word in words} for part in parts]
    labels = [np.array([row["label"] for row in part]) for part in parts]
    right: dict[str, dict[str, float]] = {"most frequent sense": {}}
    for word in words:
        own, truth = labels[0][of[0][word]], labels[1][of[1][word]]
        kinds, counts = np.unique(own, return_counts=True)
        right["most frequent sense"][word] = float((truth == kinds[counts.argmax()]).mean())
        for layer in known:
            learned, guessed = unit(known[layer][of[0][word]]), unit(asked[layer][of[1][word]])
            middles = unit(np.stack([learned[own == kind].mean(0) for kind in kinds]))
            guesses = kinds[(guessed @ middles.T).argmax(1)]
            right.setdefault(layer, {})[word] = float((guesses == truth).mean())
    return {layer: {"all": float(np.mean(list(by.values()))), "bank": by["bank"]} for layer, by in right.items()}


def placed(row: Mapping[str, Any]) -> tuple[int, int]:
    """Where the word stands, in characters."""
    tokens = row["text"].split()
    start = len(" ".join(tokens[: row["token_index"]])) + (row["token_index"] > 0)
    return start, start + len(tokens[row["token_index"]])


def same(name: str, room: Room) -> Result:
    """The same sense or not, layer by layer."""
    model = opened(name, room)
    cosines, truth = [], []
    for split in ("train", "dev"):
        part = rows(room, f"wic/{split}")
        a, b = (
            word_vectors(
                model,
                [row[f"text_{side}"] for row in part],
                [(row[f"start_{side}"], row[f"end_{side}"]) for row in part],
            )
            for side in "ab"
        )
        cosines.append({layer: (unit(a[layer]) * unit(b[layer])).sum(1) for layer in a})
        truth.append(np.array([int(row["label"]) for row in part]))
    found = {"most frequent answer": {"all": float(max(truth[1].mean(), 1 - truth[1].mean()))}}
    for layer in cosines[0]:
        found[layer] = {"all": by_threshold([part[layer] for part in cosines], truth)}
    return found


def senses_by_words(room: Room) -> Result:
    """What the other words of a sentence say of the sense."""
    from bothways.learn.baselines import tfidf_logistic

    train, test = (rows(room, f"coarsewsd20/{split}") for split in ("train", "test"))
    right = {}
    for word in sorted({row["word"] for row in train}):
        known, asked = ([row for row in part if row["word"] == word] for part in (train, test))
        kinds = sorted({row["label"] for row in known})
        numbers = [kinds.index(row["label"]) for row in known]
        guesses = tfidf_logistic([row["text"] for row in known], numbers, [row["text"] for row in asked])
        right[word] = float(np.mean([kinds[int(one)] == row["label"] for one, row in zip(guesses, asked, strict=True)]))
    return {"all": float(np.mean(list(right.values()))), "bank": right["bank"]}


def same_by_words(room: Room) -> Result:
    """One sense where two sentences share enough words."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    train, dev = (rows(room, f"wic/{split}") for split in ("train", "dev"))
    weigh = TfidfVectorizer(sublinear_tf=True).fit([row[f"text_{side}"] for row in train for side in "ab"])
    cosines, truth = [], []
    for part in (train, dev):
        a, b = (weigh.transform([row[f"text_{side}"] for row in part]) for side in "ab")
        cosines.append(np.asarray(a.multiply(b).sum(1)).ravel())
        truth.append(np.array([int(row["label"]) for row in part]))
    return {"all": by_threshold(cosines, truth)}


def by_threshold(values: Sequence[np.ndarray], truth: Sequence[np.ndarray]) -> float:
    """The share of the second values that are rightly above or below what parts the first ones best."""
    places = np.quantile(values[0], np.linspace(0, 1, 201))
    best = max(places, key=lambda place: ((values[0] >= place) == truth[0]).mean())
    return float(((values[1] >= best) == truth[1]).mean())


def page(found: Mapping[str, Result]) -> Blocks:
    """Layers side by side, and the twin."""
    known = {model: [found.get(f"{model}: {what}", {}) for what in ("CoarseWSD-20", "WiC")] for model in MODELS}
    known = {model: both for model, both in known.items() if any(both)}
    heads = ["vector", *(head for model in known for head in (f"{MODELS[model]}: senses", "bank", "WiC"))]
    names = dict.fromkeys(name for both in known.values() for one in both for name in one if "frequent" not in name)
    body = [["most frequent", *(told for both in known.values() for told in most_frequent(*both))]]
    wsd, wic = ({"TF-IDF": found.get(f"TF-IDF: {what}", {})} for what in ("CoarseWSD-20", "WiC"))
    if wsd["TF-IDF"] or wic["TF-IDF"]:
        first = [told(one, "TF-IDF", what) for one, what in ((wsd, "all"), (wsd, "bank"), (wic, "all"))]
        body.append(["TF-IDF", *first, *[""] * 3 * (len(known) - 1)])
    for name in sorted(names, key=depth):
        line = [name]
        for wsd, wic in known.values():
            line += [told(wsd, name, "all"), told(wsd, name, "bank"), told(wic, name, "all")]
        body.append(line)
    both = {grid.renamed(name, {"mlm": "both ways"}): result for name, result in results("objectives").items()}
    twin = grid.lines({**both, **found}, ["both ways", "one way", grid.NONE], TASKS, "one way", grid.accuracies)
    layers = sorted((name for name in names if name.startswith("layer")), key=depth)
    panels = {
        data: {MODELS[model]: [each[name]["all"] for name in layers if name in each] for model, each in some.items()}
        for data, some in (
            ("senses, CoarseWSD-20", {model: both[0] for model, both in known.items()}),
            ("one sense or two, WiC", {model: both[1] for model, both in known.items()}),
        )
    }
    drawn = curves("words", panels, "layer", "What each layer's vectors know of senses")
    return TEXT, markdown(heads, body), drawn, TWIN_TEXT if twin else "", twin


def told(result: Result, vector: str, what: str) -> str:
    """One figure."""
    return f"{result[vector][what]:.3f}" if what in result.get(vector, {}) else NOTHING


def depth(name: str) -> int:
    """Where a vector stands in the table: static ones first."""
    return int(name.split()[1]) if name.startswith("layer") else -1


def most_frequent(wsd: Result, wic: Result) -> tuple[str, str, str]:
    """What the most frequent answer reaches."""
    sense, answer = "most frequent sense", "most frequent answer"
    return told(wsd, sense, "all"), told(wsd, sense, "bank"), told(wic, answer, "all")
