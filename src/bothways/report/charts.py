"""Charts of plain numbers, as SVG text that takes its colours from the page it stands in.

Matplotlib draws the curves with stand-in colours; afterwards these are replaced by the CSS variables of the page, so
that one picture serves a light page, a dark one and a printer. Text stays text, the ground stays transparent, and
identifiers are made unique, so that several charts can stand in one page. Heat maps are written by hand: a square a
weight needs no drawing library, and is a tenth of the size.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

from bothways.errors import need

# stand-in colour -> CSS variable of the page
INK, MUTED, LINE, FIRST, SECOND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", FIRST: "--first", SECOND: "--second"}
_COLOURS = {"first": FIRST, "second": SECOND, "ink": INK, "muted": MUTED}
_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "bothways",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
_CELL, _LETTER, _GAP = 20, 7.3, 6  # of a heat map: the side of a square, the width of a letter, and the space between

Point = dict[str, float]


def curves(
    name: str, title: str, train: Sequence[Point], held_out: Sequence[Point], key: str, *, percent: bool = False
) -> str:
    """Draws one quantity over the steps of a run: what was trained on as a line, what was held out as points.

    Args:
        name: A name for the chart, unique in its page.
        title: What is drawn.
        train: Points ``{"step": ..., key: ...}``; those without the key or without a finite value are passed over.
        held_out: The same for the held-out texts; may be empty.
        key: Which entry of the points is drawn.
        percent: Shares of one, drawn from 0 as per cent; otherwise a loss, drawn on a logarithmic axis.

    Returns:
        The chart as an ``<svg>`` element, or an empty string when there is nothing to draw.
    """
    drawn = [
        {"name": "trained on", "look": "smooth", "points": [(point["step"], point.get(key)) for point in train]},
        {"name": "held out", "look": "marks", "points": [(point["step"], point.get(key)) for point in held_out]},
    ]
    return lines(name, title, drawn, scale="percent" if percent else "log")


def lines(
    name: str,
    title: str,
    drawn: Sequence[Mapping[str, Any]],
    *,
    scale: str = "linear",
    unit: str = "",
    level: Mapping[str, Any] | None = None,
    axis: str = "step",
) -> str:
    """Draws quantities over the steps of a run, or over another axis.

    Args:
        name: A name for the chart, unique in its page.
        title: What is drawn.
        drawn: ``{name, look, points}``: `points` are pairs of step and value, of which those without a finite value are
            passed over; `look` is "smooth" (a running mean, what it is the mean of behind it), "marks", "layer" (a
            running mean alone) or "plain" (the values alone). The last two may have a ``strength`` from 0 to 1 and a
            ``colour`` ("first", "second", "ink", "muted"); a line without a name has no place in the legend.
        scale: "percent" (shares of one, from 0), "log", or "linear" (from 0).
        unit: What stands beside the values.
        level: ``{name, value}`` of a level to compare with.
        axis: What they are drawn over.

    Returns:
        The chart as an ``<svg>`` element, or an empty string when there is nothing to draw.
    """
    kept = [(line, points) for line in drawn if (points := _finite(line["points"]))]
    if not kept:
        return ""
    with drawing() as (figure, axes):
        for line, points in kept:
            _draw_line(axes, line, points)
        values = [value for _, points in kept for _, value in points]
        if level is not None:
            axes.axhline(level["value"], color=MUTED, linewidth=1.1, linestyle=(0, (4, 3)), label=level["name"])
            values.append(level["value"])
        axes.set_title(title)
        axes.set_xlabel(axis)
        axes.set_ylabel(unit)
        steps = [step for _, points in kept for step, _ in points]
        axes.set_xlim(min(0, *steps), 1.03 * max(steps))
        _number_axes(axes, values, scale)
        if named := len(axes.get_legend_handles_labels()[1]):
            axes.legend(loc="best") if named < 4 else figure.legend(loc="outside lower center", ncols=min(named, 4))
        return as_svg(figure, name)


def _draw_line(axes: Any, line: Mapping[str, Any], points: Sequence[tuple[float, float]]) -> None:
    steps, values = zip(*points, strict=True)
    label, look = line.get("name"), line.get("look", "smooth")
    mark = "o" if len(steps) == 1 else ""  # a line needs two points
    if look == "marks":
        axes.plot(steps, values, color=SECOND, linewidth=1.2, marker="o", markersize=4, label=label)
    elif look in ("layer", "plain"):
        colour, alpha = _COLOURS[line.get("colour", "first")], 0.35 + 0.65 * line.get("strength", 1.0)
        axes.plot(
            steps,
            values if look == "plain" else _smooth(values),
            color=colour,
            alpha=alpha,
            linewidth=1.4,
            marker=mark,
            label=label,
        )
    else:
        axes.plot(steps, values, color=FIRST, alpha=0.25, linewidth=0.9)
        axes.plot(steps, _smooth(values), color=FIRST, linewidth=1.8, marker=mark, markersize=4, label=label)


def bars(
    name: str, title: str, groups: Sequence[str], drawn: Sequence[Mapping[str, Any]], *, axis: str = "", unit: str = ""
) -> str:
    """Draws shares of one as groups of bars, the last of each group in full colour.

    Args:
        name: A name for the chart, unique in its page.
        title: What is drawn.
        groups: What stands below each group.
        drawn: ``{name, values}``, a value a group; None draws nothing.
        axis: What the groups are.
        unit: What stands beside the values.

    Returns:
        The chart as an ``<svg>`` element, or an empty string when there is nothing to draw.
    """
    if not groups or not drawn:
        return ""
    width = 0.8 / len(drawn)
    with drawing() as (figure, axes):
        for place, series in enumerate(drawn):
            found = [(group, value) for group, value in enumerate(series["values"]) if value is not None]
            alpha = 1.0 if place == len(drawn) - 1 else 0.35
            lefts = [group - 0.4 + width * (place + 0.5) for group, _ in found]
            axes.bar(lefts, [v for _, v in found], 0.92 * width, color=FIRST, alpha=alpha, label=series.get("name"))
        axes.set_title(title)
        axes.set_xlabel(axis)
        axes.set_ylabel(unit)
        _number_axes(axes, [value for series in drawn for value in series["values"] if value is not None], "percent")
        axes.set_xticks(range(len(groups)), groups)
        axes.grid(visible=False, axis="x")
        if len(drawn) > 1:
            axes.set_ylim(top=1.1 * axes.get_ylim()[1])
            axes.legend(loc="upper left", ncols=2)
        return as_svg(figure, name)


@contextmanager
def drawing() -> Iterator[tuple[Any, Any]]:
    """An empty chart in the style of the page: figure and axes."""
    matplotlib = need("matplotlib", "torch", "The report")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        yield figure, figure.add_subplot()


def _number_axes(axes: Any, values: Sequence[float], scale: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if scale == "percent":
        axes.set_ylim(0, min(1.0, max(*values, 0.01) * 1.15))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g}%"))
    elif scale == "linear":
        axes.set_ylim(min(0.0, *values), max(*values, 0.0) * 1.15 or 1.0)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    elif min(values) > 0:
        axes.set_yscale("log")
        narrow = max(values) < 5 * min(values)
        ticks = MaxNLocator(6, steps=[1, 2, 5, 10]) if narrow else LogLocator(subs=(1, 2, 5), numticks=12)
        axes.yaxis.set_major_locator(ticks)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _finite(points: Sequence[Sequence[float | None]]) -> list[tuple[float, float]]:
    return [(float(step or 0), float(value)) for step, value in points if value is not None and math.isfinite(value)]


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a twentieth of the run, centred, so that it does not lag behind."""
    reach = max(1, len(values) // 40)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def as_svg(figure: Any, name: str) -> str:
    """A drawing as an ``<svg>`` element in the colours of the page, its identifiers beginning with `name`."""
    drawn = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the measuring font lacks is drawn by the reader's browser
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r"font-family: [^;]*;", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg


def heat_map(tokens: Sequence[str], weights: Sequence[Sequence[float]], title: str) -> str:
    """Draws who looks at whom in one sentence.

    Args:
        tokens: L tokens.
        weights: ``L x L``; row i is what token i looks at, and sums to one.
        title: What the picture is called by a reader that cannot see it.

    Returns:
        The picture as an ``<svg>`` element: a square a pair, the stronger the more weight.
    """
    margin = max(map(len, tokens)) * _LETTER + _GAP
    side = margin + len(tokens) * _CELL
    strongest = max(*(max(row) for row in weights), 3 / len(tokens))  # looking everywhere alike stays pale
    parts = [
        f'<svg class="heat" viewBox="0 0 {side:.0f} {side:.0f}" style="max-width: {1.2 * side:.0f}px" '
        f'role="img" aria-label="{escape(title)}">'
    ]
    for i, token in enumerate(tokens):
        middle = margin + (i + 0.5) * _CELL
        label = escape(token)
        parts.append(f'<text x="{margin - _GAP:.0f}" y="{middle + 4:.0f}" text-anchor="end">{label}</text>')
        parts.append(f'<text transform="translate({middle + 4:.0f} {margin - _GAP:.0f}) rotate(-90)">{label}</text>')
    parts.append(f'<rect class="ground" x="{margin:.0f}" y="{margin:.0f}" width="{side - margin:.0f}" ')
    parts.append(f'height="{side - margin:.0f}"/><g transform="translate({margin:.0f} {margin:.0f})">')
    for i, row in enumerate(weights):
        for j, weight in enumerate(row):
            if weight >= 0.01 * strongest:
                shade = f'width="{_CELL - 1}" height="{_CELL - 1}" fill-opacity="{weight / strongest:.2f}"'
                hint = f"{escape(tokens[i])} looks at {escape(tokens[j])}: {weight:.0%}"
                parts.append(f'<rect x="{j * _CELL}" y="{i * _CELL}" {shade}><title>{hint}</title></rect>')
    return "".join(parts) + "</g></svg>"
