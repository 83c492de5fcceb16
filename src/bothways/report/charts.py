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
from collections.abc import Sequence
from html import escape
from typing import Any

from bothways.errors import need

# stand-in colour -> CSS variable of the page
INK, MUTED, LINE, FIRST, SECOND = "#010203", "#040506", "#070809", "#0a0b0c", "#0d0e0f"
_VARIABLES = {INK: "--ink", MUTED: "--muted", LINE: "--line", FIRST: "--first", SECOND: "--second"}
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
    trained, tested = _finite(train, key), _finite(held_out, key)
    if not trained and not tested:
        return ""
    matplotlib = need("matplotlib", "torch", "The report")
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 3.1), layout="constrained")
        axes = figure.add_subplot()
        if trained:
            steps, values = zip(*trained, strict=True)
            axes.plot(steps, values, color=FIRST, alpha=0.25, linewidth=0.9)
            mark = "o" if len(steps) == 1 else ""  # a line needs two points
            axes.plot(steps, _smooth(values), color=FIRST, linewidth=1.8, marker=mark, markersize=4, label="trained on")
        if tested:
            steps, values = zip(*tested, strict=True)
            axes.plot(steps, values, color=SECOND, linewidth=1.2, marker="o", markersize=4, label="held out")
        axes.set_title(title)
        axes.set_xlabel("step")
        axes.set_xlim(0, 1.03 * max(step for step, _ in trained + tested))
        _number_axes(axes, [value for _, value in trained + tested], percent)
        axes.legend(loc="lower right" if percent else "upper right")
        return _svg(figure, name)


def _number_axes(axes: Any, values: Sequence[float], percent: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    if percent:
        axes.set_ylim(0, min(1.0, max(*values, 0.01) * 1.15))
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g}%"))
    elif min(values) > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _finite(points: Sequence[Point], key: str) -> list[tuple[float, float]]:
    return [
        (float(point["step"]), float(point[key]))
        for point in points
        if point.get(key) is not None and math.isfinite(point[key])
    ]


def _smooth(values: Sequence[float]) -> list[float]:
    """A running mean over a twentieth of the run, centred, so that it does not lag behind."""
    reach = max(1, len(values) // 40)
    windows = (values[max(0, i - reach) : i + reach + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def _svg(figure: Any, name: str) -> str:
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
