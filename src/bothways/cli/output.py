"""How results are printed: tables for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bothways.progress import counted

_MOST_CLASSES = 12
"""More than these make a confusion matrix too wide to read."""
_FILE_WIDTH = 200
"""A file is as wide as it has to be."""
_EXCERPT = 300
"""Letters of a longer text that are shown."""


def as_json(data: Any) -> None:
    """Prints a result as JSON, and nothing else; what is not a finite number becomes null."""
    print(json.dumps(plain(data), indent=2, ensure_ascii=False))


def json_line(data: Any) -> None:
    """Prints a result as one line of JSON."""
    print(json.dumps(plain(data), ensure_ascii=False))


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
        figures = {"out": result.out, "texts": result.texts, "resumed": result.resumed, "seconds": result.seconds}
        lengths = {"tokens": result.tokens, "cut_texts": cut.texts, "cut_tokens": cut.tokens}
        as_json({**figures, **lengths, "windowed_texts": cut.windowed})
        return
    notes = [f"{result.resumed:,} of them by the run before"] if result.resumed else []
    notes += [f"{cut.texts:,} were cut ({cut.tokens:,} tokens)"] if cut.texts else []
    notes += [f"{cut.windowed:,} were read in windows"] if cut.windowed else []
    line(
        f"{counted(result.texts, 'texts')} in {result.seconds:.1f} s: {result.out}"
        + "".join(f"; {note}" for note in notes)
    )


def judgement(found: Mapping[str, Any]) -> None:
    """Prints what a model is worth: metrics with intervals beside its contenders', class by class, notes.

    Args:
        found: As `bothways.learn.judging.judgement.judge` gives it.
    """
    from bothways.report.judgement_page import figure, said, verdict

    names = found["metrics"]
    rows = [
        [row["name"], *(f"{figure(row['metrics'][name])} ({_ends(row['intervals'][name])})" for name in names)]
        for row in found["contenders"]
    ]
    line(verdict(found) + "\n")
    table(("", *map(said, names)), rows)
    scores(found)
    if calibrated := found["calibration"]:
        before = calibrated.get("before")
        was = f"; {before['ece']:.3f} before the temperature of {calibrated['temperature']:.2f}" if before else ""
        line(f"\nExpected calibration error {calibrated['ece']:.3f}{was}.")
    if found["notes"]:
        line("\n" + "\n".join(found["notes"]))


def measured(found: Mapping[str, Any]) -> None:
    """Prints what vectors are worth.

    Args:
        found: As `bothways.learn.measures.evaluate.evaluate_vectors` gives it.
    """
    from bothways.report.vectors_page import measured_rows, measured_sentence

    line(measured_sentence(found) + "\n")
    table(("", found["measure"], "95 % interval"), measured_rows(found))


def scores(found: Mapping[str, Any]) -> None:
    """Prints scores without intervals: the metrics where they stand alone, each class, what is taken for what.

    Args:
        found: What a task tells (`bothways.learn.tasks.protocol.Examined.scores`).
    """
    from bothways.report.judgement_page import said

    if "contenders" not in found:
        facts({said(name): value for name, value in found.items() if isinstance(value, int | float)})
    if classes := found.get("classes"):
        columns = list(next(iter(classes.values())))
        heads = ["examples" if name == "support" else said(name) for name in columns]
        line("")
        table(("class", *heads), [(name, *(one.get(key) for key in columns)) for name, one in classes.items()])
    labels, confusion = found.get("labels"), found.get("confusion")
    if confusion and labels and len(labels) <= _MOST_CLASSES:
        line("")
        table(("is \\ taken for", *labels), [(name, *row) for name, row in zip(labels, confusion, strict=True)])


def comparison(found: Mapping[str, Any]) -> None:
    """Prints how two models compare: metrics side by side, and examples that one alone has right.

    Args:
        found: As `bothways.learn.judging.compare.compare` gives it.
    """
    from bothways.report.judgement_page import figure, said

    metrics = [
        (
            said(name),
            figure(found["a"][name]),
            figure(found["b"][name]),
            f"{found['difference'][name]:+.3f} ({_ends(found['intervals'][name])})",
            f"{found['p'][name]:.3f}",
        )
        for name in found["metrics"]
    ]
    table(("", *found["names"], "difference", "p"), metrics)
    if exact := found["mcnemar"]:
        alone = f"{exact['only_a']:,} of A alone, {exact['only_b']:,} of B alone"
        line(f"\nRight answers: {alone} (McNemar's exact test, p = {exact['p']:.3f}).")
    for side, name in (("to_b", "B"), ("to_a", "A")):
        if flips := found["flips"][side]["shown"]:
            rows = [
                ("".join(part["text"] for part in one["parts"]), one["truth"], one["guess"], one["other"])
                for one in flips
            ]
            title = f"{found['flips'][side]['count']:,} examples that {name} does better"
            line("")
            table(("text", "is", f"{name} says", "the other says"), rows, title)


def _ends(ends: Sequence[float | None]) -> str:
    from bothways.report.judgement_page import figure

    return f"{figure(ends[0])} to {figure(ends[1])}"


def used(model: Any, folder: Any) -> str:
    """What is typed to use a model that lies in a folder: for its vectors, or for what it was fine-tuned to say."""
    if model.task is None or model.task == "embed":
        return f"bothways embed {folder} texts.jsonl vectors.npy"
    return f"bothways predict {folder} texts.jsonl --out answers.jsonl"


def excerpt(text: str, query: str) -> str:
    """The part of a text that has most words of the query."""
    text = " ".join(text.split())
    if len(text) <= _EXCERPT:
        return text
    wanted = {word.lower() for word in query.split() if len(word) > 2}
    starts = [0, *(place + 1 for place, sign in enumerate(text) if sign == " ")]
    starts = [start for start in starts if start <= len(text) - _EXCERPT] or [0]
    lowered = text.lower()

    def worth(start: int) -> int:
        return sum(word in lowered[start : start + _EXCERPT] for word in wanted)

    best = max(starts[:: max(1, len(starts) // 40)], key=worth)
    return (
        ("… " if best else "") + text[best : best + _EXCERPT].rstrip() + (" …" if best + _EXCERPT < len(text) else "")
    )
