"""``--from run.json``: the settings of a run become the defaults of a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from bothways.errors import BothwaysError

_NOT_REPEATED = {"out", "resume", "force", "overwrite"}  # where a run went is not what it was


def repeat(context: typer.Context, path: Path | None) -> Path | None:
    """Takes the defaults of the command from a run; whatever is typed still wins.

    Raises:
        BothwaysError: The file is no run, or one of another command.
    """
    if path is not None:
        context.default_map = _settings(path, context)
    return path


def _settings(path: Path, context: typer.Context) -> dict[str, Any]:
    from bothways.learn.runs import read_run

    run = read_run(path)
    command, typed, settings = run["command"], context.command_path.partition(" ")[2], dict(run["settings"])
    if command != typed:
        raise BothwaysError(f"{path} is a run of {command!r}, not of {typed!r}: bothways {command} --from {path}")
    options = {option.name: option for option in context.command.params if option.name not in _NOT_REPEATED}
    given = {name: value for name, value in settings.items() if name in options and value is not None}
    return {
        name: [value] if _takes_several(options[name]) and isinstance(value, str) else value
        for name, value in given.items()
    }


def _takes_several(option: Any) -> bool:
    return option.nargs == -1 or getattr(option, "multiple", False)
