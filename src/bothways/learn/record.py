"""What a run has written down about itself, read back: its log and, where there is one, its run.json.

It serves finished runs, runs that go on at this moment and runs that were killed. No torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.files import read_json

LOG, RUN, METRICS = "log.jsonl", "run.json", "metrics.json"


@dataclass(frozen=True)
class Record:
    """What is known of a run.

    Attributes:
        folder: Where it lies.
        run: What ``run.json`` says (`bothways.learn.runs.write_run`); empty without one.
        lines: The lines of its log, in order. Each has ``"event"`` and ``"step"``.
    """

    folder: Path
    run: dict[str, Any]
    lines: list[dict[str, Any]]

    def of(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event: ``"step"``, ``"evaluation"``, ``"insight"``, ``"run"``, ``"corpus"``."""
        return [line for line in self.lines if line["event"] == event]


def read_record(folder: str | Path) -> Record:
    """Reads what a run has written down so far.

    Args:
        folder: The run's folder, or its run.json.

    Raises:
        BothwaysError: There is no run, it has logged nothing yet, or its log cannot be read.
    """
    path = Path(folder)
    path = path.parent if path.name == RUN else path
    if not path.is_dir():
        raise BothwaysError(f"{path} {'is no folder' if path.exists() else 'does not exist'}: give the folder of a run")
    if not (path / LOG).is_file():
        near = sorted(str(inner.parent) for inner in path.glob(f"*/{LOG}"))
        hint = f"did you mean {' or '.join(near)}" if near else "give the folder that was its --out"
        raise BothwaysError(f"{path} holds no run, for it has no {LOG}: {hint}")
    lines = _read_lines(path / LOG)
    if not any(line["event"] in ("step", "evaluation") for line in lines):
        raise BothwaysError(f"{path / LOG} holds no step yet: wait until the run has taken its first few")
    return Record(path, read_json(path / RUN) if (path / RUN).is_file() else {}, lines)


def ending(history: dict[str, Any]) -> str | None:
    """Why a run ended before its last step, in a sentence; None if it did not.

    Args:
        history: What ``run.json`` says of its end (`bothways.learn.state.History.figures`).
    """
    stopped, best = history["stopped"], history["best_step"]
    never = "no evaluation gave a number" if best is None else f"the metric has not become better since step {best:,}"
    whys = {"no better metric": never, "no more data": "there were no more data", "callback": "a callback ended it"}
    if (why := whys.get(stopped)) is None:
        return None
    return f"Stopped early, after step {history['steps']:,} of {history['planned']:,}: {why}."


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a last one that was cut when the run was killed is left out, as resuming does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BothwaysError(f"{path} cannot be read ({error.strerror})") from None
    lines = []
    for number, text in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            line = json.loads(text)
            if not isinstance(line["event"], str) or not isinstance(line["step"], int):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            raise BothwaysError(f"{path}, line {number} is no line of a run's log: restore it, or remove it") from None
        lines.append(line)
    return lines
