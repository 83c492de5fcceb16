"""The page of a judged model: from what `metrics.json` says to the data that `page` shows. Plain data in and out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Line = Mapping[str, Any]

NAMES = {
    "macro_f1": "macro-F1",
    "micro_f1": "micro-F1",
    "f1": "F1",
    "mcc": "MCC",
    "em": "exact match",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "pearson": "Pearson",
    "spearman": "Spearman",
}
_FACTS = 3
_CLASSES, _CONFUSED, _WIDE = 60, 12, 20
"""Classes in the table; most frequent confusions told; classes in a matrix that can still be read."""


def judgement_page(judgement: Line, *, made: str = "") -> dict[str, Any]:
    """The data of the page.

    Args:
        judgement: What ``metrics.json`` holds: what `bothways.learn.judging.judgement.judge` finds, and where there is
            a learning curve ``curve``: for each share of the training data ``share``, ``examples``, metrics by name,
            and perhaps ``spread``, the standard deviation of the first.
        made: When the page was made, as text.
    """
    names = judgement["metrics"]
    first = said(names[0])
    kinds = _kinds_of_marks(judgement)
    return {
        "title": f"{judgement['task'].capitalize()}: {without_folders(judgement['data']['name'])}",
        "summary": verdict(judgement),
        "made": made,
        "facts": [{"name": said(name), "value": figure(judgement.get(name))} for name in names[:_FACTS]]
        + [{"name": "examples", "value": f"{judgement['examples']:,}"}],
        "judgement": {
            "notes": list(judgement["notes"]),
            "metrics": [said(name) for name in names],
            "contenders": _contenders(judgement, _whole(judgement)),
            "whole": _whole(judgement),
            "classes": _classes(judgement),
            "confusion": _confusion(judgement),
            "confused": _confused(judgement),
            "calibration": _calibration(judgement.get("calibration")),
            "groups": [
                {"title": f"{first} by length", "axis": "tokens; examples", "metric": first}
                | {"rows": [_group(row, "{:,}") for row in judgement["lengths"]]},
                {"title": f"{first} by known words", "axis": "share of words seen in training; examples"}
                | {"metric": first, "rows": [_group(row, "{:.0%}") for row in judgement["familiarity"]]},
            ],
            "scatter": judgement["scatter"],
            "curve": _curve(judgement),
            "worst": judgement["worst"],
            "doubtful": judgement["doubtful"],
            "suspected": judgement["suspected"],
            "numbers": bool(judgement["scatter"]),
            "marked": bool(kinds),
            "named": len(kinds) > 1,
            "data": _data(judgement),
        },
    }


def _kinds_of_marks(judgement: Line) -> set[str]:
    """The names of all that is marked in the texts that are shown."""
    parts = [part for row in (*judgement["worst"], *judgement["doubtful"]) for part in row["parts"]]
    return {name for part in parts for side in ("right", "guessed") for name in part.get(side, ())}


def _curve(judgement: Line) -> dict[str, Any] | None:
    name, points = judgement["metrics"][0], judgement.get("curve")
    if not points:
        return None
    kept = [{"examples": one["examples"], "metric": one.get(name), "spread": one.get("spread")} for one in points]
    return {"metric": said(name), "points": kept}


def said(metric: str) -> str:
    """A metric's name as people write it."""
    return NAMES.get(metric, metric.replace("_", " "))


def without_folders(name: str) -> str:
    """A name, or a sentence with one, without the folders of this machine."""
    return re.sub(r"\S*[/\\]", "", name)


def figure(value: float | None) -> str:
    """A score as people write it: three places below ten, one above."""
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(judgement: Line) -> str:
    """In words: the score, what it is worth, and whether it beats what is simple."""
    metric, rows = judgement["metrics"][0], judgement["contenders"]
    low, high = judgement["intervals"][metric]
    sentences = [
        f"{said(metric)} {figure(judgement.get(metric))} ({judgement['level']:.0%} interval {figure(low)} to "
        f"{figure(high)}) on {judgement['examples']:,} examples."
    ]
    baselines = [row for row in rows if row["role"] == "baseline" and row["metrics"][metric] is not None]
    if baselines:
        best = max(baselines, key=lambda row: row["metrics"][metric])
        sentences.append(_against(best, metric))
    before = next((row for row in rows if row["role"] == "before"), None)
    if before is not None:
        sentences.append(f"Before training it was {figure(before['metrics'][metric])}.")
    return " ".join(sentences)


def _against(best: Line, metric: str) -> str:
    difference, named = (
        best["difference"],
        f"the strongest baseline, {best['name']} ({figure(best['metrics'][metric])})",
    )
    if difference["value"] is None or difference["p"] >= 0.05:
        return f"It cannot be told apart from {named}."
    way = "above" if difference["value"] > 0 else "below"
    return f"That is {figure(abs(difference['value']))} {way} {named}, which is beyond chance."


def _whole(judgement: Line) -> int:
    """What a perfect score is: some metrics count to a hundred."""
    first = judgement["metrics"][0]
    return 100 if any((row["metrics"][first] or 0) > 1.5 for row in judgement["contenders"]) else 1


def _contenders(judgement: Line, whole: int) -> list[dict[str, Any]]:
    """Rows of cells; in the first metric each with the place of its interval on a common scale, in per cent."""
    first = judgement["metrics"][0]
    rows = []
    for row in judgement["contenders"]:
        cells = [
            {"value": figure(row["metrics"][name]), "low": figure(low), "high": figure(high)}
            for name, (low, high) in row["intervals"].items()
        ]
        low, high = (_place(end, whole) for end in row["intervals"][first])
        scale = {"from": low, "width": max(0.0, high - low), "at": _place(row["metrics"][first], whole)}
        difference = row.get("difference")
        told = None
        if difference and difference["value"] is not None:
            told = {"value": f"{difference['value']:+.3f}", "low": figure(difference["low"])}
            told |= {"high": figure(difference["high"]), "chance": difference["p"] >= 0.05}
        rows.append({"name": row["name"], "role": row["role"], "cells": cells, "scale": scale, "difference": told})
    return rows


def _place(value: float | None, whole: float) -> float:
    return round(100 * min(1.0, max(0.0, (value or 0.0) / whole)), 2)


def _classes(judgement: Line) -> dict[str, Any] | None:
    """The table of classes, the most frequent ones of many, in their own order."""
    classes = judgement.get("classes") or {}
    if not classes:
        return None
    trained = judgement["trained"]
    names = list(classes)
    if len(names) > _CLASSES:
        often = sorted(names, key=lambda name: -(classes[name].get("support") or 0))[:_CLASSES]
        names = [name for name in names if name in set(often)]
    columns = [name for name in next(iter(classes.values())) if name != "support"]
    rows = [
        {
            "name": name,
            "cells": [figure(classes[name].get(column)) for column in columns],
            "bar": _place(classes[name].get("f1"), 1),
            "support": classes[name].get("support"),
            "trained": trained.get(name),
        }
        for name in names
    ]
    return {
        "title": "With and without an answer" if judgement["task"] == "answer" else "Class by class",
        "columns": [said(column) for column in columns],
        "rows": rows,
        "trained": bool(trained),
        "bars": "f1" in columns,
        "left_out": len(classes) - len(names),
    }


def _confusion(judgement: Line) -> dict[str, Any] | None:
    counts, labels = judgement.get("confusion"), judgement.get("labels")
    if not counts or not labels or len(labels) > _WIDE:
        return None
    return {"labels": labels, "counts": counts}


def _confused(judgement: Line) -> list[dict[str, Any]]:
    """Of too many classes for a matrix: what is taken for what most often."""
    counts, labels = judgement.get("confusion"), judgement.get("labels")
    if not counts or not labels or len(labels) <= _WIDE:
        return []
    pairs = [
        {"right": right, "guess": guess, "count": count}
        for right, row in zip(labels, counts, strict=True)
        for guess, count in zip(labels, row, strict=True)
        if right != guess and count
    ]
    return sorted(pairs, key=lambda pair: -pair["count"])[:_CONFUSED]


def _calibration(found: Line | None) -> dict[str, Any] | None:
    if found is None:
        return None
    now, before = f"{found['ece']:.3f}", found.get("before")
    note = f"The expected calibration error is {now} over {found['decisions']:,} decisions"
    if before is not None:
        note += f"; it was {before['ece']:.3f} before the temperature of {found['temperature']:.2f}"
    return {
        **found,
        "before": before,
        "note": f"{note}. On the dashed line a confidence of 80% is right 80 times in 100.",
    }


def _group(row: Line, form: str) -> dict[str, Any]:
    ends = [form.format(row[end]) for end in ("from", "to")]
    return {**row, "label": ends[0] if ends[0] == ends[1] else "–".join(ends)}


def _data(judgement: Line) -> dict[str, Any]:
    """Counts of copies and cuts, as text, and copies to look at."""
    copies, cut = judgement.get("copies"), judgement["truncation"]
    rows = [("examples judged", f"{judgement['examples']:,}")]
    if judgement.get("train"):
        rows.append(("training examples", f"{judgement['train']['examples']:,}"))
    rows.append(
        (f"texts cut at {cut['max_length'] or 0:,} tokens" if cut["texts"] else "texts cut", f"{cut['texts']:,}")
    )
    if cut["texts"]:
        rows.append(("tokens cut", f"{cut['tokens']:,} of {cut['all_tokens']:,}"))
    if copies:
        rows += [
            ("examples that the training data hold too", f"{copies['overlap']:,}"),
            ("of them labelled otherwise there", f"{copies['otherwise']:,}"),
            ("repeated examples in the training data", f"{copies['in_train']:,}"),
            ("repeated examples among those judged", f"{copies['in_test']:,}"),
        ]
        rows += [(f"{said(name)} without copies", figure(value)) for name, value in copies["without"].items()]
    return {
        "rows": [{"name": name, "value": value} for name, value in rows],
        "shown": copies["shown"] if copies else [],
    }
