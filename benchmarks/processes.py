"""What the benchmarks of two sides share: each measurement in a process of its own, and kept when it is finished."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

Cell = TypeVar("Cell")
Result = dict[str, Any]


def measured(
    cells: Sequence[Cell],
    path: Path,
    revive: Callable[[dict[str, Any]], Cell],
    measure: Callable[[Cell], Result | None],
    told: Callable[[Cell, Result], str],
) -> dict[Cell, Result]:
    """The result of every cell, in their order; what is finished is kept, and not measured again.

    Args:
        cells: Frozen dataclasses that say all about a measurement.
        path: Keeps what is finished, a line of JSON each.
        revive: Makes a cell of its fields.
        measure: Gives a cell's result; None where it could not be had, and is asked for again the next time.
        told: What is said of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    done = _finished(path, revive)
    for number, cell in enumerate(cells, 1):
        if cell in done:
            continue
        result = measure(cell)
        if result is None:
            continue
        done[cell] = result
        with path.open("a") as file:
            file.write(json.dumps({"cell": asdict(cell), "result": done[cell]}) + "\n")
        print(f"{number} of {len(cells)}: {told(cell, done[cell])}", file=sys.stderr, flush=True)
    return {cell: done[cell] for cell in cells if cell in done}


def in_process(name: str, script: str, *arguments: str, python: str = sys.executable, **environment: str) -> Result:
    """What a script prints last, as JSON, when it is run by a fresh process.

    Args:
        name: Of the measurement, for the message if it fails.
        script: The path of a Python file.
        arguments: What is typed after it.
        python: What runs it.
        environment: Variables that it sees besides the usual ones.
    """
    variables = os.environ | {"HF_HUB_OFFLINE": "1"} | environment
    done = subprocess.run([python, script, *arguments], capture_output=True, text=True, env=variables)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    found: Result = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _finished(path: Path, revive: Callable[[dict[str, Any]], Cell]) -> dict[Cell, Result]:
    """What was measured before; a line that was cut off when the script was stopped is measured again."""
    done = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            kept = json.loads(line)
            done[revive(kept["cell"])] = kept["result"]
        except (ValueError, TypeError, KeyError):
            continue
    return done
