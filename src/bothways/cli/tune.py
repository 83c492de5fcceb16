"""``bothways tune TASK``: the options of ``bothways finetune TASK``, and what is searched."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from typing import Annotated, Any

from bothways.cli import output
from bothways.cli.finetuning.files import learned_from
from bothways.cli.options import Minutes, training

_NOT_OFFERED = ("again", "seeds", "folds", "curve", "resume", "force", "tensorboard")
_NOT_SETTINGS = ("files", "train", "threads", "json", "trials", "minutes", "search")
_SHOWN = 10


def _own(
    trials: Annotated[int, training("--trials", "N", "Fine-tunings, with those of an earlier call.")] = 20,
    minutes: Minutes = None,
    search: Annotated[
        list[str] | None,
        training("--search", "NAME=WHAT", "Try LOW:HIGH, LOW:HIGH:log or A,B,C; else rate, epochs and batch size."),
    ] = None,
) -> None: ...


def searching(task: str, finetuning: Callable[..., None]) -> Callable[..., None]:
    """The command that searches settings for a task, from the one that fine-tunes for it.

    Args:
        task: Its name.
        finetuning: ``bothways finetune TASK``.
    """
    offered = {
        name: each for name, each in inspect.signature(finetuning).parameters.items() if name not in _NOT_OFFERED
    }
    hints = typing.get_type_hints(finetuning, include_extras=True) | typing.get_type_hints(_own, include_extras=True)

    def run(**given: Any) -> None:
        import bothways as bw

        settings = {
            name: value
            for name, value in given.items()
            if name in offered and name not in _NOT_SETTINGS and value != offered[name].default
        }
        asked = {name: given[name] for name in ("trials", "minutes")} | {"search": given["search"] or None}
        _show(task, bw.tune(task, train=learned_from(task, given), **asked, **settings), given)

    own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in inspect.signature(_own).parameters.values()]
    listed = list(offered.values())
    place = next(number for number, each in enumerate(listed) if each.name == "epochs")
    run.__doc__ = f"Search the settings with which fine-tuning for {task} does best; an unfinished search goes on."
    run.__signature__ = inspect.Signature([*listed[:place], *own, *listed[place:]])  # type: ignore[attr-defined]
    run.__annotations__ = {name: hint for name, hint in hints.items() if name not in _NOT_OFFERED}
    return run


def examples(task: str) -> list[str]:
    """How it is typed."""
    asked = "--search learning_rate=1e-5:5e-4:log --search epochs=2,3,5"
    return [
        f"bothways tune {task} train.jsonl --base my-bert --out found --trials 20",
        f"bothways tune {task} train.jsonl --base my-bert --out found --minutes 60 {asked}",
    ]


def _show(task: str, result: Any, given: dict[str, Any]) -> None:
    """Prints the best settings, the best trials, and what they are worth."""
    tried = {"metric": result.metric, "value": result.value, "settings": result.settings, "trials": result.trials}
    if given["json"]:
        output.as_json({"out": result.out, "dev": result.dev, **tried, **(result.judgement or result.scores)})
        return
    output.line(f"The best of {len(result.trials)} trials, scored on {result.dev}:\n")
    (output.judgement if result.judgement else output.scores)(result.judgement or result.scores)
    names = list(result.settings)
    done = [trial for trial in result.trials if trial["value"] is not None]
    best = sorted(done, key=lambda trial: abs(trial["value"] - result.value))[:_SHOWN]
    output.line("")
    rows = [[t["number"] + 1, t["value"], *(_figure(t["settings"][name]) for name in names)] for t in best]
    output.table(["trial", result.metric, *names], rows)
    output.line(f"\nNext: bothways finetune {task} --from {given['out']}/run.json --seed 1 --out again")


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
