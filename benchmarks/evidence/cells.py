"""Cells of tables: what one is, where its result is kept, and how missing ones are done, each in its own process."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs"
TABLES = ("objectives", "roberta", "families", "tasks", "tricks", "vectors", "distillation", "words")
LIMIT = 29 * 60
"""Seconds after which a cell is asked to stop; a training keeps its checkpoint and goes on from it."""
TRIES = 12
"""How often a cell is begun in one sitting, if it is stopped; one that fails is not begun again."""

Result = dict[str, Any]
Blocks = Sequence[str]
"""Paragraphs and tables of a page; empty ones are left out."""


@dataclass(frozen=True)
class Room:
    """Where a cell finds things.

    Attributes:
        data: The folder with the data sets.
        work: What may be thrown away: trained models, prepared corpora. Made again where it is missing.
        models: Folders of published models, by name.
    """

    data: Path
    work: Path
    models: dict[str, str]

    def made(self, name: str, make: Callable[[Path], object], sign: str = "model") -> Path:
        """A folder of `work`, made if `sign` is not in it; two processes do not make the same one."""
        folder = self.work / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / sign).exists():
                make(folder)
        return folder


@dataclass(frozen=True)
class Cell:
    """One training and its scores.

    Attributes:
        name: What it is called in its table.
        run: Does it.
        needs: Names of cells of the table that make what it begins with: done first, so that nobody waits.
    """

    name: str
    run: Callable[[Room], Result]
    needs: tuple[str, ...] = ()


def table(name: str) -> Any:
    """The module of a table: ``TITLE``, ``cells()`` and ``page(results)``."""
    return importlib.import_module(f"tables.{name}")


def results(name: str) -> dict[str, Result]:
    """The finished cells of a table; a line that was cut off does not count."""
    path = HERE / "results" / f"{name}.jsonl"
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            kept = json.loads(line)
            found[kept["cell"]] = kept["result"]
        except (ValueError, KeyError):
            continue
    return found


def keep(name: str, cell: str, result: Result, seconds: float) -> None:
    """Adds a finished cell to its table."""
    path = HERE / "results" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    line = {"cell": cell, "result": result, "seconds": round(seconds), "on": time.strftime("%Y-%m-%d"), "bf16": bf16()}
    whole = not path.exists() or path.read_bytes().endswith(b"\n")  # else the last line was cut off
    with path.open("a", encoding="utf-8") as file:
        file.write(("" if whole else "\n") + json.dumps(line) + "\n")


def bf16() -> bool:
    """Whether this processor multiplies bf16, in which Bothways trains then unless told otherwise."""
    from bothways.run.machine import processor_features

    return any("bf16" in name for name in processor_features())


class Runner:
    """Does what is missing of some tables, several cells side by side."""

    def __init__(self, names: Sequence[str], only: Sequence[str], arguments: Sequence[str], threads: int) -> None:
        self.arguments, self.threads = list(arguments), threads
        self.waiting = [
            (name, cell)
            for name in names
            for cell in table(name).cells()
            if not only or any(word in cell.name for word in only)
        ]
        self.failed: list[str] = []
        self._running: dict[tuple[str, str], subprocess.Popen[str]] = {}
        self._tries: Counter[tuple[str, str]] = Counter()
        self._change = threading.Condition()
        self._stopped = False
        self._left: int | None = None

    def run(self, jobs: int, most: int | None, until: float | None) -> None:
        """Does cells until none is left, `most` are done or `until` has come; SIGTERM stops it as Ctrl-C does."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        self._left = most
        workers = [threading.Thread(target=self._work, args=(until,)) for _ in range(jobs)]
        for worker in workers:
            worker.start()
        try:
            for worker in workers:
                worker.join()
        except KeyboardInterrupt:
            with self._change:
                self._stopped = True
                for process in self._running.values():
                    process.send_signal(signal.SIGTERM)
                self._change.notify_all()
            raise

    def _work(self, until: float | None) -> None:
        while (found := self._next(until)) is not None:
            name, cell = found
            began = time.monotonic()
            result = self._done(name, cell, until)
            with self._change:
                del self._running[name, cell.name]
                if result is None:
                    self._tries[name, cell.name] += 1
                else:
                    keep(name, cell.name, result, time.monotonic() - began)
                self._change.notify_all()

    def _next(self, until: float | None) -> tuple[str, Cell] | None:
        """The first missing cell whose needs are there; waits where another one is making them."""
        with self._change:
            while True:
                if self._stopped or self._left == 0 or (until is not None and time.time() >= until):
                    return None
                done = {name: results(name) for name in {name for name, _ in self.waiting}}
                missing = [
                    (name, cell)
                    for name, cell in self.waiting
                    if cell.name not in done[name] and self._tries[name, cell.name] < TRIES
                ]
                free = [each for each in missing if (each[0], each[1].name) not in self._running]
                ready = [(name, cell) for name, cell in free if all(need in done[name] for need in cell.needs)]
                if ready:
                    name, cell = ready[0]
                    self._running[name, cell.name] = self._start(name, cell)
                    if self._left is not None:
                        self._left -= 1
                    return name, cell
                if not free or not self._running:
                    return None
                self._change.wait()

    def _start(self, name: str, cell: Cell) -> subprocess.Popen[str]:
        variables = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(self.threads)}
        typed = [sys.executable, str(HERE), *self.arguments, "--cell", name, cell.name]
        return subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)

    def _done(self, name: str, cell: Cell, until: float | None) -> Result | None:
        process, limit = self._running[name, cell.name], float(LIMIT)
        if until is not None:
            limit = min(limit, max(1.0, until - time.time()))
        try:
            out, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            try:
                out, err = process.communicate(timeout=120)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
            print(f"{name}: {cell.name}: stopped, to go on later", file=sys.stderr, flush=True)
            return None
        try:
            found: Result = json.loads(out.strip().splitlines()[-1])
        except (ValueError, IndexError):
            self._tries[name, cell.name] = TRIES
            if not self._stopped:
                self.failed.append(f"{name}: {cell.name}")
                print(f"{name}: {cell.name} failed ({process.returncode}):\n{err[-3000:]}", file=sys.stderr, flush=True)
            return None
        print(f"{name}: {cell.name}: {json.dumps(found)[:200]}", file=sys.stderr, flush=True)
        return found
