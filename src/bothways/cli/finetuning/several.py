"""``bothways finetune TASK`` with ``--seeds``, ``--folds`` or ``--curve``: several runs, side by side."""

from __future__ import annotations

from typing import Any

from bothways.cli import output
from bothways.cli.finetuning.files import follows, learned_from
from bothways.errors import BothwaysError


def several(task: str, given: dict[str, Any], settings: dict[str, Any]) -> None:
    """Makes the runs and prints what came of them.

    Args:
        task: Its name.
        given: All that was typed.
        settings: What `finetune` takes of it, but the data to learn from.

    Raises:
        BothwaysError: More than one of the three is asked for.
    """
    import bothways as bw

    asked = [
        f"--{name}" for name in ("seeds", "folds", "curve") if given[name] is not None and given[name] is not False
    ]
    if len(asked) > 1:
        raise BothwaysError(f"{' and '.join(asked)} each make several runs: give one of them")
    train = learned_from(task, given)
    if given["curve"]:
        curve = bw.learning_curve(task, train=train, **settings)
        whole = curve.finetuned
        found = {"out": whole.out, "dev": whole.dev, "curve": curve.points, **(whole.judgement or whole.scores)}
        _show(task, given, found, "All examples", whole, curve.points)
        return
    if given["seeds"] is not None:
        runs = bw.finetune_seeds(task, train=train, seeds=given["seeds"], **settings)
        title = f"Best of {given['seeds']} seeds"
    else:
        runs = bw.cross_validate(task, train=train, folds=given["folds"], **settings)
        title = "Every example judged by the model that had not seen it"
    found = {"out": runs.out, "dev": runs.dev, **runs.figures(), **(runs.judgement or runs.scores)}
    _show(task, given, found, title, runs, runs.runs, runs.spread)


def _show(
    task: str,
    given: dict[str, Any],
    found: dict[str, Any],
    title: str,
    result: Any,
    runs: list[dict[str, Any]],
    spread: dict[str, dict[str, float]] | None = None,
) -> None:
    """Prints scores, and a line a run; with a spread also mean, standard deviation, least and greatest."""
    if given["json"]:
        output.as_json(found)
        return
    output.line(f"{title}, scored on {result.dev}:\n")
    (output.judgement if result.judgement else output.scores)(result.judgement or result.scores)
    columns = [name for name in runs[0] if name != "seconds"]
    rows = [[run[name] for name in columns] for run in runs]
    spread = spread or {}
    told = ("mean", "std", "min", "max") if spread else ()
    rows += [[what, *(spread[name][what] if name in spread else None for name in columns[1:])] for what in told]
    output.line("")
    output.table(columns, rows)
    if result.judgement:
        output.line(f"\nReport: {given['out']}/report.html")
    output.line(f"\nNext: {follows(task, given['out'])}")
