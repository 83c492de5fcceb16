"""Pictures of tables: the scores of each row, seed by seed, a panel a task; and curves."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cells import DOCS

Panels = Mapping[str, Mapping[str, Sequence[float]]]
"""By the title of a panel and the name of a row, the score of each seed; rows without any are left out."""
COLOUR, QUIET = "#0b6e99", "#dddddd"
WIDEST = 11.0
"""Inches."""


def dots(name: str, panels: Panels, said: str, *, alike: bool = False) -> str:
    """Draws the scores of all rows.

    Args:
        name: Of the picture.
        panels: What is drawn.
        said: What one sees, for who sees no pictures.
        alike: Whether all panels have one scale.

    Returns:
        The line of the page; nothing where there is nothing to see.
    """
    rows = list(dict.fromkeys(row for values in panels.values() for row, seeds in values.items() if seeds))
    shown = [title for title, values in panels.items() if sum(bool(seeds) for seeds in values.values()) > 1]
    if len(rows) < 2 or not shown:
        return ""
    width = min(2.1 * len(shown) + 1.9, WIDEST)
    with picture(name, (width, 0.27 * len(rows) + 1.2), len(shown), alike) as (path, every):
        for axes, title in zip(every, shown, strict=True):
            for place, row in enumerate(reversed(rows)):
                seeds = panels[title].get(row) or ()
                axes.plot(seeds, [place] * len(seeds), "o", color=COLOUR, markersize=4, alpha=0.5)
                if seeds:
                    axes.plot(statistics.mean(seeds), place, "|", color=COLOUR, markersize=11, markeredgewidth=2)
            axes.set_title(title.replace(", ", "\n").replace(" from ", "\nfrom "), fontsize=9)
            axes.grid(axis="x", color=QUIET, linewidth=0.6)
            axes.xaxis.get_major_locator().set_params(nbins=3)
            axes.tick_params(axis="x", labelsize=8)
        every[0].set_yticks(range(len(rows)), list(reversed(rows)))
        every[0].set_ylim(-0.6, len(rows) - 0.4)
    return f"![{said}]({path.name})"


def curves(name: str, panels: Mapping[str, Mapping[str, Sequence[float]]], along: str, said: str) -> str:
    """Draws lines over 0, 1, 2, …, named by `along`; otherwise as `dots`."""
    panels = {title: {row: values for row, values in lines.items() if values} for title, lines in panels.items()}
    shown = [title for title, lines in panels.items() if lines]
    if not shown:
        return ""
    with picture(name, (3.6 * len(shown) + 0.6, 2.9), len(shown)) as (path, every):
        for axes, title in zip(every, shown, strict=True):
            for row, values in panels[title].items():
                axes.plot(range(len(values)), values, "o-", markersize=4, label=row)
            axes.set_title(title, fontsize=9)
            axes.set_xlabel(along)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y", color=QUIET, linewidth=0.6)
        every[0].legend(frameon=False, fontsize=8)
    return f"![{said}]({path.name})"


@contextmanager
def picture(name: str, size: tuple[float, float], panels: int, alike: bool = False) -> Any:
    """The file of a picture and its axes side by side, of one scale or not; it is written when the block ends."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "bothways", "svg.fonttype": "none", "font.size": 9})
    shared = {"sharex": alike, "sharey": True}
    figure, found = plt.subplots(1, panels, figsize=size, squeeze=False, layout="constrained", **shared)
    path: Path = DOCS / f"evidence-{name}.svg"
    yield path, list(found[0])
    for axes in found[0]:
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
