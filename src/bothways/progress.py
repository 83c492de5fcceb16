"""One quiet progress bar: what is being done, how fast, how long it will take.

On a terminal a bar is drawn and removed when done; elsewhere (a log file, CI) nothing moves and one line is printed at
the end. `silent()` turns both off.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_silent = False


def silent(value: bool = True) -> None:
    """Turns all progress output off (or on again)."""
    global _silent
    _silent = value


def speaks() -> bool:
    """Whether this process speaks: it is the only one, or the first of those that `torchrun` has started."""
    return os.environ.get("RANK", "0") == "0"


class Progress:
    """What a running job reports to.

    Attributes:
        done: Units finished so far.
        before: Units that were finished before the job began, which say nothing of its speed.
        note: A short text shown beside the bar, such as the current loss.
    """

    def __init__(self, what: str, total: float | None, unit: str, before: float = 0.0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self.before = before
        self.note = ""
        self.began = time.monotonic()

    def advance(self, amount: float = 1.0, note: str | None = None) -> None:
        """Says that `amount` more units are finished."""
        self.done += amount
        self.update(note)

    def reach(self, done: float, note: str | None = None) -> None:
        """Says that `done` units are finished in all."""
        self.done = done
        self.update(note)

    def update(self, note: str | None = None) -> None:
        """Shows the present state; a bar that is drawn overrides this."""
        if note is not None:
            self.note = note

    @property
    def seconds(self) -> float:
        """Seconds since the job began."""
        return time.monotonic() - self.began

    @property
    def rate(self) -> float:
        """Units a second since the job began."""
        return (self.done - self.before) / max(self.seconds, 1e-9)


@contextmanager
def progress(what: str, total: float | None = None, unit: str = "items", before: float = 0.0) -> Iterator[Progress]:
    """Shows the progress of a job while the block runs.

    Args:
        what: What is being done, as it stands before the bar: "Reading corpus".
        total: How many units there are in all; None when unknown.
        unit: What is counted, in the plural: "documents", "tokens"; "s" (a bar by time, shown in seconds).
        before: Units that were finished before, by a run that this one goes on with.
    """
    if _silent:
        yield Progress(what, total, unit, before)
        return
    if not sys.stderr.isatty():
        job = Progress(what, total, unit, before)
        yield job
        tail = f"  {job.note}" if job.note else ""
        speed = "" if unit == "s" else f"{counted(job.done, unit)}, {_figure(job.rate)} {unit}/s, "
        print(f"{what}: {speed}{job.seconds:.1f} s{tail}", file=sys.stderr, flush=True)
        return
    with _drawn(what, total, unit, before) as job:
        yield job


@contextmanager
def _drawn(what: str, total: float | None, unit: str, before: float) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    display = RichProgress(
        TextColumn("{task.description:<26}"),
        BarColumn(bar_width=28),
        TextColumn("{task.percentage:>3.0f}%" if total else ""),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(compact=True),
        TextColumn("[dim]{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )

    class Drawn(Progress):
        def update(self, note: str | None = None) -> None:
            super().update(note)
            speed = "" if unit == "s" else f"{_figure(self.rate)} {unit}/s"
            display.update(bar, completed=int(self.done), speed=speed, note=self.note)

    job = Drawn(what, total, unit, before)
    bar = display.add_task(what, total=total, completed=int(before), speed="", note="")
    with display:
        yield job
    tail = f"  [dim]{job.note}[/dim]" if job.note else ""
    amount = "" if unit == "s" else f"{counted(job.done, unit)} "
    display.console.print(
        f"[green]✓[/green] {what:<24} {amount}[dim]in {job.seconds:,.1f} s[/dim]{tail}", highlight=False
    )


def counted(count: float, units: str) -> str:
    """A number of things in words: ``"1 text"``, ``"2,000 texts"``."""
    return f"{count:,.0f} {units.removesuffix('s') if count == 1 else units}"


def say(sentence: str) -> None:
    """Tells the user something about a run in one line, unless `silent` is on."""
    if not _silent:
        print(f"· {sentence}", file=sys.stderr, flush=True)


def _figure(rate: float) -> str:
    """A speed in two or more figures."""
    return f"{rate:,.0f}" if rate >= 9.95 else f"{rate:.1f}" if rate >= 0.995 else f"{rate:.2f}"
