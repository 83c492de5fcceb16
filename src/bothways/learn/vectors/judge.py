"""How well vectors say what belongs together: what is measured follows from the form of the data.

Pairs with scores: Spearman's and Pearson's correlation of cosine and score. Labelled pairs: average precision of the
cosine, and F1 and accuracy at the threshold that suits best. Pairs that belong together: each first text looks for its
second among those of all; MRR@10 and recall. Triplets: the same, and how often the negatives are farther away. Texts
with classes: MAP@R (Musgrave et al. 2020, "A Metric Learning Reality Check", section 3.2) and whether the nearest text
has the same class. Texts alone: the first half of each looks for its second.

Shapes: N groups, U distinct texts, E width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.metrics import regression_scores
from bothways.learn.tasks.protocol import Examined, Judged, Rows
from bothways.learn.vectors.data import VectorData, text_ids

METRICS = {
    "texts": ("mrr@10", "recall@1", "recall@10"),
    "classes": ("map@r", "accuracy"),
    "pairs": ("mrr@10", "recall@1", "recall@10"),
    "scored": ("spearman", "pearson"),
    "labelled": ("ap", "f1", "accuracy"),
    "triplets": ("mrr@10", "recall@1", "recall@10", "accuracy"),
}
_BLOCK = 256
"""Texts that are compared with all others at once."""

Embed = Callable[[Sequence[str]], Any]
"""From U texts to ``(U, E)`` rows of length 1, dense or sparse, whose products are compared."""


def halves(data: VectorData) -> VectorData:
    """Each text as a pair of its halves: by words, or where there are none by letters."""
    pairs = []
    for text in data.texts:
        words = text.split()
        if len(words) > 1:
            middle = (len(words) + 1) // 2
            pairs += [" ".join(words[:middle]), " ".join(words[middle:])]
        else:
            middle = (len(text) + 1) // 2
            pairs += [text[:middle], text[middle:] or text]
    return VectorData("pairs", pairs, np.arange(0, len(pairs) + 1, 2), (), data.name, data.where)


def guesses_of(data: VectorData, embed: Embed) -> list[Any]:
    """What vectors say of each group; `judged` says what it is worth.

    Args:
        data: N groups.
        embed: Makes the vectors.

    Returns:
        N guesses: a cosine of scored and labelled pairs; for pairs and triplets ``(rank, nearest text, whether
        negatives are farther)``; for classes ``(MAP@R, class of the nearest, nearest text)``.
    """
    if not len(data):
        raise BothwaysError("there is nothing to score: the data hold no example")
    if data.form == "texts":
        data = halves(data)
    compared = data.form in ("scored", "labelled")  # else texts that differ in the size of letters belong together
    ids = _exact(data.texts) if compared else text_ids(data.texts)
    _, first, number_S = np.unique(ids, return_index=True, return_inverse=True)
    vectors_UE = embed([data.texts[place] for place in first])
    if compared:
        one, other = vectors_UE[number_S[data.starts[:-1]]], vectors_UE[number_S[data.starts[:-1] + 1]]
        found: list[Any] = [float(value) for value in _row_products(one, other)]
        return found
    texts = [data.texts[place] for place in first]
    return (_neighbours if data.form == "classes" else _ranks)(data, vectors_UE, number_S, texts)


def _exact(texts: Sequence[str]) -> np.ndarray:
    """``(S,)`` numbers that are equal where texts are."""
    known = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    return np.array([known[text] for text in texts])


def judged(data: VectorData, guesses: Sequence[Any]) -> Examined:
    """What guesses are worth.

    Args:
        data: N groups.
        guesses: As `guesses_of` makes them.
    """
    if data.form == "scored":
        return _scored(data, np.array(guesses))
    if data.form == "labelled":
        return _labelled(data, np.array(guesses))
    if data.form == "classes":
        table = np.array([(share, label == own) for (share, label, _), own in zip(guesses, data.labels, strict=True)])
        names = METRICS["classes"]
    else:
        ranks = np.array([rank for rank, _, _ in guesses])
        far = np.array([farther for _, _, farther in guesses], dtype=np.float64)
        table = np.stack([np.where(ranks <= 10, 1 / ranks, 0.0), ranks <= 1, ranks <= 10, far], axis=1)
        names = METRICS["triplets"]
    table, names = table[:, : len(METRICS[data.form])].astype(np.float64), names[: len(METRICS[data.form])]

    def means(places: np.ndarray) -> dict[str, float]:
        return dict(zip(names, np.nanmean(table[places], axis=0).tolist(), strict=True))

    def row(place: int) -> Judged:
        if data.form == "classes":
            _, label, _ = guesses[place]
            return Judged(data.texts[place], data.labels[place], label, float(label == data.labels[place]))
        rank, nearest, _ = guesses[place]
        group = halves(data.take([place], data.name)).group(0) if data.form == "texts" else data.group(place)
        return Judged(group[0], group[1], nearest, float(1 / rank))

    scores = means(np.arange(len(data))) | {"examples": len(data)}
    return Examined(scores, Rows(len(data), row), means, guesses=guesses)


def _scored(data: VectorData, cosines_N: np.ndarray) -> Examined:
    right, texts = data.scores(), data.inputs()
    order = [values.argsort().argsort() / max(1, len(right) - 1) for values in (right, cosines_N)]

    def figures(places: np.ndarray) -> dict[str, float]:
        found = regression_scores(right[places], cosines_N[places])
        return {name: found[name] for name in METRICS["scored"]}

    def row(place: int) -> Judged:
        apart = abs(order[0][place] - order[1][place])
        return Judged(texts[place], f"{right[place]:g}", f"{cosines_N[place]:.4f}", -float(apart))

    scores = figures(np.arange(len(right))) | {"examples": len(right)}
    return Examined(scores, Rows(len(right), row), figures, guesses=cosines_N.tolist())


def _labelled(data: VectorData, cosines_N: np.ndarray) -> Examined:
    flags, texts = data.flags(), data.inputs()
    if not flags.any() or flags.all():
        raise BothwaysError(f"{data.name} says {data.labels[0]!r} of all pairs; to measure, both kinds are needed")
    for_f1, for_accuracy = best_thresholds(flags, cosines_N)

    def figures(places: np.ndarray) -> dict[str, float]:
        right, cosines = flags[places], cosines_N[places]
        given = cosines >= for_f1
        f1 = 2 * (given & right).sum() / max(1, given.sum() + right.sum())
        accuracy = ((cosines >= for_accuracy) == right).mean()
        return {"ap": average_precision(right, cosines), "f1": float(f1), "accuracy": float(accuracy)}

    def row(place: int) -> Judged:
        given = bool(cosines_N[place] >= for_accuracy)
        told = f"{'together' if given else 'apart'} ({cosines_N[place]:.3f})"
        return Judged(texts[place], "together" if flags[place] else "apart", told, float(given == flags[place]))

    scores = figures(np.arange(len(flags))) | {"threshold": float(for_accuracy), "examples": len(flags)}
    return Examined(scores, Rows(len(flags), row), figures, guesses=cosines_N.tolist())


def best_thresholds(flags: np.ndarray, cosines: np.ndarray) -> tuple[float, float]:
    """From which cosine on pairs are taken to belong together: for the highest F1, and for the highest accuracy.

    Args:
        flags: ``(N,)`` booleans.
        cosines: ``(N,)``.
    """
    order = np.argsort(-cosines, kind="stable")
    sorted_N, hits_N = cosines[order], np.cumsum(flags[order])
    given_N = np.arange(1, len(flags) + 1)
    f1_N = 2 * hits_N / (given_N + flags.sum())
    accuracy_N = hits_N - (given_N - hits_N)
    last = np.append(sorted_N[1:] < sorted_N[:-1], True)  # equal cosines are given together
    below = np.append(sorted_N[1:], sorted_N[-1] - 1e-6)
    middle = (sorted_N + below) / 2
    found = [float(middle[np.argmax(np.where(last, values, -np.inf))]) for values in (f1_N, accuracy_N)]
    return found[0], found[1]


def average_precision(flags: np.ndarray, cosines: np.ndarray) -> float:
    """The mean of the precision at each right pair, equal cosines counted together; 0 where none is right."""
    if not flags.any():
        return 0.0
    order = np.argsort(-cosines, kind="stable")
    sorted_N, hits_N = cosines[order], np.cumsum(flags[order])
    last = np.flatnonzero(np.append(sorted_N[1:] < sorted_N[:-1], True))
    precision, recall = hits_N[last] / (last + 1), hits_N[last] / flags.sum()
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def _ranks(data: VectorData, vectors_UE: Any, number_S: np.ndarray, texts: list[str]) -> list[Any]:
    """For each group the rank of its second text among all second and further texts; equal likeness counts against."""
    begins = data.starts[:-1]
    candidates_C = np.setdiff1d(np.arange(len(texts)), np.setdiff1d(number_S[begins], np.delete(number_S, begins)))
    column = np.full(len(texts), -1)
    column[candidates_C] = np.arange(len(candidates_C))
    belongs: dict[int, set[int]] = {}
    for begin in begins:
        belongs.setdefault(number_S[begin], set()).add(int(column[number_S[begin + 1]]))
    found: list[Any] = []
    for start in range(0, len(data), _BLOCK):
        groups = range(start, min(len(data), start + _BLOCK))
        block = _products(vectors_UE[number_S[begins[start : groups.stop]]], vectors_UE[candidates_C])
        for group, likeness_C in zip(groups, block, strict=True):
            asked = number_S[begins[group]]
            own = belongs[asked]
            best = max(likeness_C[place] for place in own)
            others_C = likeness_C.copy()
            others_C[[*own, *([column[asked]] if column[asked] >= 0 and column[asked] not in own else [])]] = -np.inf
            negatives = column[number_S[begins[group] + 2 : data.starts[group + 1]]]
            second = likeness_C[column[number_S[begins[group] + 1]]]
            farther = float(np.mean(likeness_C[negatives] < second)) if len(negatives) else float("nan")
            rank = 1 + int((others_C >= best).sum())
            nearest = others_C.argmax() if rank > 1 else max(own, key=lambda place: likeness_C[place])
            found.append((rank, texts[candidates_C[nearest]], farther))
    return found


def _neighbours(data: VectorData, vectors_UE: Any, number_S: np.ndarray, texts: list[str]) -> list[Any]:
    """For each text how well those of its class come first, and the class of the nearest."""
    names, classes_N = np.unique(np.array(data.labels), return_inverse=True)
    found: list[Any] = []
    for start in range(0, len(data), _BLOCK):
        places = range(start, min(len(data), start + _BLOCK))
        block = _products(vectors_UE[number_S[start : places.stop]], vectors_UE)[:, number_S]
        for place, likeness_N in zip(places, block, strict=True):
            likeness_N[place] = -np.inf
            same = classes_N == classes_N[place]
            count = int(same.sum()) - 1
            nearest = np.argsort(-likeness_N, kind="stable")[: max(1, count)]
            hits = same[nearest]
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            share = float((precision * hits).sum() / count) if count else float("nan")
            found.append((share, str(names[classes_N[nearest[0]]]), data.texts[int(nearest[0])]))
    return found


def _products(one: Any, other: Any) -> np.ndarray:
    """Dense products of rows with rows."""
    found = one @ other.T
    return np.array(found.todense() if hasattr(found, "todense") else found, dtype=np.float32)


def _row_products(one: Any, other: Any) -> np.ndarray:
    """``(N,)`` the products of rows that stand beside each other."""
    found = one.multiply(other).sum(1) if hasattr(one, "multiply") else (one * other).sum(1)
    return np.asarray(found, dtype=np.float64).reshape(-1)
