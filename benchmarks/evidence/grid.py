"""What tables share whose rows are encoders: each is fine-tuned on several tasks with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cells import Cell, Result, Room
from encoders import encoder, pretrained, untrained
from figures import NOTHING, Difference, chance, difference, markdown, spread
from plots import dots
from probes import PROBES, SEEDS, baselines, probe

NONE = "no pre-training"
Rows = Mapping[str, Mapping[str, Any]]


def slug(row: str) -> str:
    """A folder's name."""
    return "-".join("".join(letter if letter.isalnum() or letter == "." else " " for letter in row).split())


def cells(
    rows: Rows, tasks: Iterable[str] | Rows, *, untaught: Iterable[str] = (), simple: bool = True
) -> Iterator[Cell]:
    """Pre-trainings, then each row's fine-tunings; of `untaught` rows also from random weights, and the baselines.

    Args:
        rows: What `encoders.encoder` takes, by row.
        tasks: Names of probes, and where they are a mapping what differs in them.
        untaught: Rows whose encoders are fine-tuned untrained too; tables without any show those of the first table.
        simple: Whether with them come the baselines.
    """
    own = tasks if isinstance(tasks, Mapping) else {}
    tasks = tuple(tasks)
    for row, settings in rows.items():
        yield Cell(f"pre-train: {row}", partial(_pretrain, row, settings))
        for task in tasks:
            for seed in SEEDS:
                run = partial(_probe, row, settings, task, seed, own.get(task, {}))
                yield Cell(f"{row}: {task}, seed {seed}", run, (f"pre-train: {row}",))
    for row in untaught:
        for task in tasks:
            for seed in SEEDS:
                run = partial(_untaught, row, rows[row], task, seed, own.get(task, {}))
                yield Cell(f"{untaught_name(row, untaught)}: {task}, seed {seed}", run, (f"pre-train: {row}",))
    if simple and tuple(untaught):
        for task in tasks:
            yield Cell(f"baselines: {task}", partial(_baselines, task))


def untaught_name(row: str, untaught: Iterable[str]) -> str:
    """The row of an encoder that was not trained; by its own name where there are several."""
    return NONE if len(tuple(untaught)) == 1 else f"{row}, {NONE}"


def _pretrain(row: str, settings: Mapping[str, Any], room: Room) -> Result:
    return pretrained(room, slug(row), **settings)


def _folder(row: str, settings: Mapping[str, Any], room: Room) -> Path:
    return encoder(room, slug(row), **settings)


def _probe(row: str, settings: Mapping[str, Any], task: str, seed: int, own: Mapping[str, Any], room: Room) -> Result:
    return probe(room, task, _folder(row, settings, room), seed, **own)


def _untaught(
    row: str, settings: Mapping[str, Any], task: str, seed: int, own: Mapping[str, Any], room: Room
) -> Result:
    return probe(room, task, untrained(_folder(row, settings, room), seed), seed, **own)


def _baselines(task: str, room: Room) -> Result:
    return baselines(room, task)


def scores(found: Mapping[str, Result], row: str, task: str) -> list[float]:
    """The seeds that are there."""
    names = [f"{row}: {task}, seed {seed}" for seed in SEEDS]
    return [found[name]["score"] for name in names if name in found]


def compared(found: Mapping[str, Result], row: str, other: str, tasks: Iterable[str]) -> Difference | None:
    """How far a row is above another; None until both are whole."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for task in tasks:
        names = [(f"{row}: {task}, seed {seed}", f"{other}: {task}, seed {seed}") for seed in SEEDS]
        if not all(one in found and two in found for one, two in names):
            return None
        pairs[task] = [(found[one]["score"], found[two]["score"]) for one, two in names]
    return difference(pairs)


def lines(
    found: Mapping[str, Result],
    rows: Iterable[str],
    tasks: Iterable[str],
    against: str,
    held_out: Callable[[Result], str] | None = None,
) -> str:
    """The table: each row's scores, and how far it is above `against`; the baselines at its end."""
    tasks = tuple(tasks)
    heads = ["", *([] if held_out is None else ["held out"]), *(PROBES[task].said for task in tasks)]
    body = []
    for row in rows:
        known = found.get(f"pre-train: {row}")
        first = [] if held_out is None else [held_out(known) if known else NOTHING]
        told = None if row == against else compared(found, row, against, tasks)
        body.append([row, *first, *(spread(scores(found, row, task)) for task in tasks), str(told or "")])
    names = dict.fromkeys(name for task in tasks for name in found.get(f"baselines: {task}", {}))
    for name in names:
        own = [found.get(f"baselines: {task}", {}).get(name) for task in tasks]
        values = [NOTHING if value is None else f"{value:.3f}" for value in own]
        body.append([name, *([] if held_out is None else [""]), *values, ""])
    return markdown([*heads, f"points above {against}"], body)


def picture(name: str, found: Mapping[str, Result], rows: Iterable[str], tasks: Iterable[str]) -> str:
    """The scores of all rows, a panel a task, and what the simple ones reach, but for the most frequent answer's.

    That one lies so far to the left that nothing else could be told apart.
    """
    panels: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        simple = {each: [score] for each, score in found.get(f"baselines: {task}", {}).items() if each != "majority"}
        panels[PROBES[task].said] = {row: scores(found, row, task) for row in rows} | simple
    return dots(name, panels, "Each row's scores on each task, seed by seed; a stroke is their mean")


def accuracies(result: Result) -> str:
    """What a pre-training says of its held-out text."""
    names = [name for name in result if name.startswith("accuracy.")]
    return ", ".join(f"{name.partition('.')[2]} {result[name]:.1%}" for name in names)


def answers(found: Mapping[str, Result], questions: Iterable[tuple[str, str, str]], tasks: Iterable[str]) -> str:
    """What each change gave: a table of questions, each a row against another."""
    tasks, body = tuple(tasks), []
    for said, row, other in questions:
        told = compared(found, row, other, tasks)
        tests = (None, None) if told is None else (told.by_seed, told.by_task)
        figures = [NOTHING if p is None else chance(p).removeprefix("p ") for p in tests]
        body.append([said, NOTHING if told is None else f"{told.points:+.1f}", *figures])
    return markdown(["change", "points", "p", "p by task"], body)


def renamed(cell: str, names: Mapping[str, str]) -> str:
    """The name of a cell whose row is called otherwise in another table."""
    for row, other in names.items():
        if cell.startswith(f"{row}: "):
            return other + cell[len(row) :]
        if cell == f"pre-train: {row}":
            return f"pre-train: {other}"
    return cell
