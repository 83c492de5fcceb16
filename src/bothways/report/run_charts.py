"""The charts of one training run: from the lines of its log to what `charts` draws. Plain data in, plain data out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bothways.report.judgement_page import said

Line = Mapping[str, Any]

KINDS = {
    "mlm": "Masked tokens",
    "nsp": "Next sentences",
    "sop": "Order of sentences",
    "rtd": "Replaced tokens",
    "soft": "Teacher's guesses",
    "cosine": "Direction of the teacher's states",
    "minilm": "Teacher's relations",
    "embeddings": "Teacher's embeddings",
    "states": "Teacher's hidden states",
    "scores": "Teacher's scores of attention",
    "classify": "Classes",
    "regress": "Scores",
    "tag": "Tags",
    "answer": "Answers",
    "choose": "Choices",
    "rerank": "Texts of a query",
    "sparse": "Texts in the batch",
    "late": "Texts in the batch",
    "flops": "Sparseness",
}
"""What kinds of losses are called on the page."""
_NOT_NATS = ("", "regress", "flops", "cosine", "embeddings", "states", "scores")
_POINTS = 300
"""Points of a line, at most: more of them cannot be told apart, and the page should stay small."""


def title_of(kind: str, steps: Sequence[Line]) -> str:
    """What a kind of loss is called; of replaced tokens the masked ones are the generator's."""
    if kind == "mlm" and steps and "loss.rtd" in steps[-1]:
        return "Generator's masked tokens"
    return KINDS.get(kind, kind) if kind else "All objectives"


def levels(corpus: Line, insights: Sequence[Line]) -> dict[str, tuple[str, float]]:
    """What can be reached without reading, by name of loss or accuracy: how, in words, and the value."""
    found: dict[str, tuple[str, float]] = {}
    for pairs in ("nsp", "sop"):  # half of the pairs are of either kind
        found |= {f"accuracy.{pairs}": ("by chance", 0.5), f"loss.{pairs}": ("by chance", math.log(2))}
    for what in ("loss", "accuracy"):
        if corpus.get(f"unigram_{what}"):
            found[f"{what}.mlm"] = ("by frequency alone", corpus[f"unigram_{what}"])
    counts = [(insights[-1].get(name) or {}).get("count", 0) for name in ("original", "replaced")] if insights else []
    if counts and min(counts) > 0:
        shares = [count / sum(counts) for count in counts]
        found["accuracy.rtd"] = ("if all are called original", shares[0])
        found["loss.rtd"] = ("by their shares alone", -sum(share * math.log(share) for share in shares))
    return found


def curves(
    steps: Sequence[Line], evaluations: Sequence[Line], reachable: Mapping[str, tuple[str, float]]
) -> list[dict[str, Any]]:
    """All charts over the steps, those with nothing to show left out.

    Args:
        steps: The lines on training.
        evaluations: Those on held-out examples.
        reachable: `levels`.
    """
    charts = []
    for kind in _kinds(steps, evaluations):
        for what in ("loss", "accuracy"):
            chart = _both(kind, what, steps, evaluations)
            if level := reachable.get(f"{what}.{kind}"):
                chart["level"] = {"name": level[0], "value": level[1]}
            charts.append(chart)
    names = scores(evaluations)
    drawn = [
        {"name": said(name), "look": "layer", "strength": 1 - place / len(names), "points": _points(evaluations, name)}
        for place, name in enumerate(names)
    ]
    charts.append({"title": "Scores on the dev set", "scale": "linear", "lines": drawn, "unit": "score"})
    charts.append(_one("Learning rate", "rate", steps, "rate"))
    charts.append(_one("Length of the gradient", "gradient_norm", steps, "norm", scale="log"))
    charts.append(_by_layer(steps))
    charts.append(_one("Speed", "tokens_per_second", steps, "tokens a second"))
    charts.append(_one("Share of the machine's arithmetic that was used", "utilisation", steps, "share", "percent"))
    charts.append(_one("Share of the time spent waiting for data", "waiting", steps, "share", "percent"))
    return [chart for chart in charts if any(line["points"] for line in chart["lines"])]


def scores(evaluations: Sequence[Line]) -> list[str]:
    """The names of a task's metrics in a log, the one that chooses first; those beyond 1 only where all are."""
    names = dict.fromkeys(name for line in evaluations for name in line)
    metrics = [name for name in names if name not in ("event", "step", "loss") and "." not in name]
    known = {name: [line[name] for line in evaluations if isinstance(line.get(name), int | float)] for name in metrics}
    told = [name for name, values in known.items() if values]
    return [name for name in told if max(map(abs, known[name])) <= 1] or told


def _kinds(steps: Sequence[Line], evaluations: Sequence[Line]) -> list[str]:
    """What is learned, in the order of the log; ``""`` is the whole loss, shown where it has several parts."""
    names = dict.fromkeys(name for line in (*steps, *evaluations) for name in line)
    kinds = [name.partition(".")[2] for name in names if name.startswith("loss.")]
    return ["", *kinds] if len(kinds) != 1 else kinds


def _both(kind: str, what: str, steps: Sequence[Line], evaluations: Sequence[Line]) -> dict[str, Any]:
    """One quantity in training and on held-out examples."""
    name = f"{what}.{kind}" if kind else what
    lines = [
        {"name": "trained on", "look": "smooth", "points": _points(steps, name)},
        {"name": "held out", "look": "marks", "points": _points(evaluations, name)},
    ]
    of = title_of(kind, steps)
    chart: dict[str, Any] = {"title": f"{of}: guessed right", "unit": "share", "scale": "percent", "lines": lines}
    if what == "loss":
        chart |= {"title": f"{of}: loss", "unit": "loss" if kind in _NOT_NATS else "nats a guess", "scale": "log"}
    return chart


def _one(title: str, name: str, steps: Sequence[Line], unit: str, scale: str = "linear") -> dict[str, Any]:
    return {
        "title": title,
        "unit": unit,
        "scale": scale,
        "lines": [{"look": "smooth", "points": _points(steps, name)}],
    }


def _by_layer(steps: Sequence[Line]) -> dict[str, Any]:
    """The gradient of each part: layers from pale (the first) to full colour (the last)."""
    prefix = "gradient_norm."
    names = list(dict.fromkeys(name for line in steps for name in line if name.startswith(prefix)))
    layers = [name for name in names if name.startswith(f"{prefix}layer")]
    lines = []
    for name in names:
        line: dict[str, Any] = {"look": "layer", "points": _points(steps, name), "name": name.removeprefix(prefix)}
        if name in layers:
            line["strength"] = layers.index(name) / max(1, len(layers) - 1)
            if name not in (layers[0], layers[-1]):
                del line["name"]
        else:
            line["colour"] = {"embeddings": "second", "heads": "ink"}.get(line["name"], "muted")
        lines.append(line)
    return {"title": "Length of the gradient by layer", "unit": "norm", "scale": "log", "lines": lines}


def _points(lines: Iterable[Line], name: str) -> list[list[float]]:
    """Step and value, of many neighbours their means."""
    found = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    size = -(-len(found) // _POINTS)
    groups = [found[first : first + size] for first in range(0, len(found), max(1, size))]
    return [[group[-1][0], sum(value for _, value in group) / len(group)] for group in groups]


def bars(insights: Sequence[Line]) -> list[dict[str, Any]]:
    """Masked accuracy by frequency and by length of word, at the first evaluation and at the last."""
    compared = [insights[0], insights[-1]] if len(insights) > 1 else list(insights)
    charts = []
    for name, title, axis in (
        ("frequency", "Masked tokens guessed right, by frequency", "times the token stands in the corpus"),
        ("word_length", "Masked tokens guessed right, by length of the word", "tokens of the word"),
    ):
        groups = compared[-1].get(name) or []
        drawn = [
            {
                "name": f"step {line['step']:,}",
                "values": [group["right"] / group["count"] if group["count"] else None for group in line[name]],
            }
            for line in compared
            if line.get(name)
        ]
        labels = [f"{_range(group)}\n{group['count']:,}" for group in groups]
        charts.append({"title": title, "groups": labels, "bars": drawn, "axis": f"{axis}; places", "unit": "share"})
    return [chart for chart in charts if chart["groups"]]


def _range(group: Line) -> str:
    first, end = group["from"], group["to"]
    if end is None:
        return f"{first}+"
    if end - first == 1:
        return str(first)
    return f"{_short(first)}–{_short(end)}" if first else f"< {_short(end)}"


def _short(number: int) -> str:
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number // size}{letter}"
    return str(number)
