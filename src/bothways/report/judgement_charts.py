"""The charts of a judged model: is it calibrated, where is it good, what would more data bring. Plain numbers in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.charts import FIRST, LINE, MUTED, SECOND, as_svg, drawing

Numbers = Mapping[str, Any]


def reliability(name: str, now: Numbers, before: Numbers | None) -> str:
    """Draws how often guesses of a confidence are right, with a temperature and without.

    Args:
        name: A name for the chart, unique in its page.
        now: ``bins``, each with ``confidence``, ``right`` and ``count``.
        before: The same without the temperature, or None.
    """
    if not now["bins"]:
        return ""
    with drawing() as (figure, axes):
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label="as it should be")
        most = max(one["count"] for one in now["bins"])
        axes.bar(
            [(one["from"] + one["to"]) / 2 for one in now["bins"]],
            [0.25 * one["count"] / most for one in now["bins"]],
            0.9 / 15,
            color=LINE,
            label="share of the guesses",
        )
        if before is not None:
            _points(axes, before["bins"], SECOND, "before the temperature")
        _points(axes, now["bins"], FIRST, "the model" if before is None else "with the temperature")
        axes.set(title="Confidence and truth", xlabel="confidence", ylabel="share right", xlim=(0, 1), ylim=(0, 1.03))
        _percent(axes.xaxis)
        _percent(axes.yaxis)
        figure.legend(loc="outside lower center", ncols=2)
        return as_svg(figure, name)


def groups(name: str, title: str, axis: str, metric: str, rows: Sequence[Numbers]) -> str:
    """Draws a metric over groups of examples, with intervals.

    Args:
        name: A name for the chart, unique in its page.
        title: What is drawn.
        axis: What the groups are.
        metric: What the metric is called.
        rows: ``label``, ``value``, ``low`` and ``high`` (None where not known), ``examples``.
    """
    rows = [row for row in rows if row["value"] is not None]
    if not rows:
        return ""
    with drawing() as (figure, axes):
        for place, row in enumerate(rows):
            axes.bar(place, row["value"], 0.62, color=FIRST, alpha=0.35)
            if row["low"] is not None:
                axes.plot([place, place], [row["low"], row["high"]], color=FIRST, linewidth=2)
            axes.plot(place, row["value"], color=FIRST, marker="o", markersize=5)
        axes.set(title=title, xlabel=axis, ylabel=metric)
        axes.set_xticks(range(len(rows)), [f"{row['label']}\n{row['examples']:,}" for row in rows])
        axes.grid(visible=False, axis="x")
        _from_zero(axes, [value for row in rows for value in (row["value"], row["high"]) if value is not None])
        return as_svg(figure, name)


def scatter(name: str, pairs: Sequence[Sequence[float]]) -> str:
    """Draws guessed numbers over right ones, pairs of them."""
    if not pairs:
        return ""
    right, guessed = zip(*pairs, strict=True)
    ends = [min(right), max(right)]
    with drawing() as (figure, axes):
        axes.plot(ends, ends, color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label="as it should be")
        axes.plot(right, guessed, color=FIRST, linestyle="", marker="o", markersize=3, alpha=0.4, label="an example")
        axes.set(title="Scores guessed", xlabel="right", ylabel="guessed")
        axes.legend(loc="upper left")
        return as_svg(figure, name)


def learning_curve(name: str, metric: str, points: Sequence[Numbers]) -> str:
    """Draws a metric over the number of training examples.

    Args:
        name: A name for the chart, unique in its page.
        metric: What the metric is called.
        points: ``examples``, ``metric`` (its value) and ``spread`` (a standard deviation, or None).
    """
    known = sorted((point for point in points if point["metric"] is not None), key=lambda point: point["examples"])
    if not known:
        return ""
    with drawing() as (figure, axes):
        where, values = [point["examples"] for point in known], [point["metric"] for point in known]
        spreads = [point.get("spread") or 0.0 for point in known]
        ends = [[v + sign * s for v, s in zip(values, spreads, strict=True)] for sign in (-1, 1)]
        axes.fill_between(where, *ends, color=FIRST, alpha=0.18, linewidth=0)
        axes.plot(where, values, color=FIRST, linewidth=1.8, marker="o", markersize=4)
        axes.set(title="What more data brings", xlabel="training examples", ylabel=metric)
        if where[0] > 0 and where[-1] > 4 * where[0]:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter("")
        axes.set_xticks(where, [f"{count:,}" for count in where])
        return as_svg(figure, name)


def _points(axes: Any, bins: Sequence[Numbers], colour: str, label: str) -> None:
    """A point a bin, the larger the more guesses it holds."""
    where, values = [one["confidence"] for one in bins], [one["right"] for one in bins]
    most = max(one["count"] for one in bins)
    axes.plot(where, values, color=colour, linewidth=1.1, alpha=0.5)
    axes.scatter(where, values, [6 + 60 * one["count"] / most for one in bins], color=colour, label=label)


def _percent(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g}%"))


def _from_zero(axes: Any, values: Sequence[float]) -> None:
    axes.set_ylim(min(0.0, *values, 0.0), max(*values, 0.01) * 1.08)
