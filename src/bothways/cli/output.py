"""How results are printed: tables for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MOST_CLASSES = 12
"""More than these make a confusion matrix too wide to read."""
_FILE_WIDTH = 200
"""A file is as wide as it has to be."""


def as_json(data: Any) -> None:
    """Prints a result as JSON, and nothing else; what is not a finite number becomes null."""
    print(json.dumps(plain(data), indent=2, ensure_ascii=False))


def plain(value: Any) -> Any:
    """A value of strings, finite numbers, lists and dictionaries; anything else becomes its text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays, torch's tensors
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [plain(inner) for inner in value]
    return str(value)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str = "") -> None:
    """Prints a table; a column whose cells are numbers stands to the right.

    Args:
        columns: Headings.
        rows: Cells: text, integers, floats (three places), None for nothing.
        title: What stands above it.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    listed = [list(row) for row in rows]
    drawn = Table(box=None, pad_edge=False, show_header=any(columns))
    for place, name in enumerate(columns):
        cells = [row[place] for row in listed if row[place] is not None]
        numeric = bool(cells) and all(isinstance(cell, int | float) for cell in cells)
        drawn.add_column(Text(name, style="dim"), justify="right" if numeric else "left", overflow="fold")
    for row in listed:
        drawn.add_row(*(Text(_cell(cell)) for cell in row))
    console = Console(highlight=False)
    if title:
        console.print(Text(title, style="bold"))
    if console.is_terminal:
        console.print(drawn)
        return
    console.width = _FILE_WIDTH  # a file needs no blanks at the end of lines
    with console.capture() as written:
        console.print(drawn)
    line("\n".join(row.rstrip() for row in written.get().splitlines()))


def room() -> int:
    """Letters in a line of the terminal; 200 for a file, which is as wide as it has to be."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else _FILE_WIDTH


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Prints a table as Markdown, with the cells of `table`."""
    for row in (columns, ["---"] * len(columns), *rows):
        print("| " + " | ".join(_cell(cell) for cell in row) + " |")


def facts(pairs: Mapping[str, Any], title: str = "") -> None:
    """Prints names and values below each other; a value of None is left out."""
    table(("", ""), [(name, _cell(value)) for name, value in pairs.items() if value is not None], title)


def line(sentence: str) -> None:
    """Prints a sentence as it is."""
    print(sentence)


def one(listed: Sequence[Any]) -> Any:
    """The only member of a list, or the list."""
    return listed[0] if len(listed) == 1 else list(listed)


def bar(share: float, width: int = 24) -> str:
    """A share of one as a bar of eighths of a letter."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return "█" * (eighths // 8) + ("▏▎▍▌▋▊▉"[eighths % 8 - 1] if eighths % 8 else "")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if math.isfinite(value) else "–"
    if isinstance(value, list | tuple):
        return ", ".join(_cell(inner) for inner in value)
    return str(value)


def bulk(result: Any, json: bool) -> None:
    """Prints what a file-to-file job did; nothing where the answers themselves are on stdout."""
    if result.out == "-":
        return
    cut = result.truncation
    if json:
        figures = {"out": result.out, "texts": result.texts, "seconds": result.seconds}
        as_json(figures | {"cut_texts": cut.texts, "cut_tokens": cut.tokens})
    else:
        line(f"{result.texts:,} texts in {result.seconds:.1f} s: {result.out}")


def scores(found: Mapping[str, Any]) -> None:
    """Prints the scores of a classifier: the three figures, each class, and what is taken for what."""
    figures = {"accuracy": found["accuracy"], "macro-F1": found["macro_f1"], "MCC": found["mcc"]}
    facts(figures | {"examples": found["examples"]})
    rows = [
        (name, one["precision"], one["recall"], one["f1"], one["support"]) for name, one in found["classes"].items()
    ]
    line("")
    table(("class", "precision", "recall", "F1", "examples"), rows)
    if len(found["labels"]) <= _MOST_CLASSES:
        line("")
        counts = [(name, *row) for name, row in zip(found["labels"], found["confusion"], strict=True)]
        table(("is \\ taken for", *found["labels"]), counts)
