"""``bothways families``: which families there are, how they differ, and which checkpoints are published."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import Json, plain
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways families",
    "bothways families albert",
    "bothways families --diff roberta:large modernbert:large",
    "bothways families --checkpoints",
    "bothways families --json",
]

_WIDE = 150
"""Letters that a line of the whole table takes."""


def families(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One family, with what is its own.")] = None,
    diff: Annotated[
        tuple[str, str] | None, plain("--diff", "A B", "How two differ: families, or sizes such as albert:xlarge.")
    ] = None,
    checkpoints: Annotated[bool, plain("--checkpoints", None, "List published checkpoints; of NAME if given.")] = False,
    markdown: Annotated[bool, plain("--markdown", None, "Print the table for a page of documentation.")] = False,
    json: Json = False,
) -> None:
    """List the model families, or show one: how it differs from BERT, and its published sizes."""
    from bothways.model import catalogue
    from bothways.model.families import families as all_families
    from bothways.model.families import family

    if diff is not None:
        if name or checkpoints or markdown:
            raise BothwaysError("--diff stands alone: bothways families --diff A B")
        _show_diff(*diff, json)
        return
    members = None if name is None else family(name)
    if checkpoints:
        rows = catalogue.checkpoint_table()
        listed = [row for row in rows if name in (None, row[2])]
        data = [one for one in catalogue.checkpoints() if name in (None, one["family"])]
        _print(catalogue.CHECKPOINT_COLUMNS, listed, data, markdown, json)
    elif members is None:
        data = [catalogue.described(one) for one in all_families().values()]
        _print(*_fitting(catalogue.COLUMNS, catalogue.table(), everything=markdown), data, markdown, json)
        if not json:
            output.line(f"\n{catalogue.NOTE}")
    elif json:
        output.as_json([catalogue.described(members) | {"differences": _differences("bert", members.name)}])
    elif markdown:
        raise BothwaysError("--markdown prints the tables of all families and of checkpoints, not that of one family")
    else:
        _show_one(members)


def _fitting(columns: Any, rows: Any, *, everything: bool) -> tuple[Any, Any]:
    """The table without what `bothways families NAME` tells anyway, where the terminal is too narrow for all."""
    if everything or output.room() >= _WIDE:
        return columns, rows
    kept = [place for place, name in enumerate(columns) if name not in ("year", "paper", "objectives", "tokenizer")]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _print(columns: Any, rows: Any, data: Any, markdown: bool, json: bool) -> None:
    if json:
        output.as_json(data)
    elif markdown:
        output.markdown(columns, rows)
    else:
        output.table(columns, rows)


def _show_one(members: Any) -> None:
    from bothways.model.catalogue import described
    from bothways.model.families import explanation

    output.line(explanation(members.name) + "\n")
    if members.name != "bert":
        _table_of_differences("bert", members.name)
        output.line("")
    sizes = described(members)["sizes"]
    columns = (
        "size",
        "layers",
        "blocks",
        "width",
        "heads",
        "feed-forward",
        "vocabulary",
        "longest input",
        "parameters",
    )
    keys = ("layers", "blocks", "width", "heads", "feed_forward", "vocab_size", "max_length", "parameters")
    rows = [(size, *(one[key] for key in keys), one["speed_class"]) for size, one in sizes.items()]
    output.table((*columns, "speed class"), rows)


def _show_diff(a: str, b: str, json: bool) -> None:
    if json:
        output.as_json({"a": a, "b": b, "differences": _differences(a, b)})
    else:
        _table_of_differences(a, b)


def _table_of_differences(a: str, b: str) -> None:
    from bothways.model.compare import named

    (one, first), (other, second) = named(a), named(b)
    rows = [(row["setting"], row["a"], row["b"], row["meaning"]) for row in _differences(a, b)]
    if not rows:
        output.line(f"{one.title} {first} and {other.title} {second} do not differ in any setting.")
        return
    heading = (f"{one.title} {first}", f"{other.title} {second}")
    output.table(("setting", *heading, "what it is"), rows, f"How {heading[1]} differs from {heading[0]}")


def _differences(a: str, b: str) -> list[dict[str, str]]:
    """What two families or sizes do not have alike: settings, what follows from them, and how they are trained."""
    from bothways.model.compare import differences

    return [
        {"setting": one.setting, "a": one.values[0], "b": one.values[1], "meaning": one.meaning}
        for one in differences(a, b)
    ]
