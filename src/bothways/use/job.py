"""A job from rows to a file: read, answered and written a window at a time, in their order, kept from kills.

What runs it is a `Workers`: threads of this process, or a cluster. Rows are told by a hash of all that were read, so a
run that goes on knows whether they are the same as before, wherever they come from.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from bothways.errors import BothwaysError
from bothways.progress import progress, say
from bothways.run import stream
from bothways.run.memory import give_back
from bothways.run.stream import Done, Threads, Workers, done, in_order, letters
from bothways.text.truncation import TooLongError, Truncation
from bothways.use.amount import expected, rows_of
from bothways.use.draft import NotWrittenError, State, kept, open_draft
from bothways.use.formats import JsonLines, Slice, make_format
from bothways.use.predictions.shared import Asked, Question, together
from bothways.use.target import Target, find_target

if TYPE_CHECKING:
    from bothways.run.questions import Questions

_TASTE = 16
"""Rows that are answered before the job begins, to tell how large the output will be."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How a job is done, whatever it asks.

    Attributes:
        overwrite: Whether an output that is there already is replaced.
        resume: Whether an interrupted run is gone on with; else it is thrown away.
        shard_rows: Rows of a shard, for a folder of them.
        on: ``"ray"`` for a cluster; None for this process.
        workers: How many processes of the cluster; None for one a machine core it has.
    """

    overwrite: bool = False
    resume: bool = True
    shard_rows: int | None = None
    on: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class BulkResult:
    """What was done.

    Attributes:
        texts: Texts (pairs, questions) answered, by an interrupted run before this one too.
        seconds: How long this run took.
        truncation: What was cut.
        out: Where the answers are.
        tokens: Tokens computed.
        resumed: Texts that an interrupted run had answered already.
    """

    texts: int
    seconds: float
    truncation: Truncation
    out: str
    tokens: int = 0
    resumed: int = 0


class Part(NamedTuple):
    """A window of rows.

    Attributes:
        rows: The rows.
        digest: A hash of these and all before.
    """

    rows: list[Asked]
    digest: str


class Output(Protocol):
    """What takes answers: `Draft`, or standard output."""

    state: State

    def append(self, columns: Slice, rows: int, digest: str, tokens: int, truncation: Truncation) -> None:
        """Adds the answers of a window."""
        ...

    def finish(self) -> None:
        """Ends the output."""
        ...


def run_job(model: Questions, asked: Question, out: str | Path, settings: Mapping[str, Any], how: How) -> BulkResult:
    """Answers every row.

    Args:
        model: What is asked.
        asked: The rows, and what is made of them.
        out: As `find_target` takes it.
        settings: What decides on the answers besides the model, as plain data.
        how: How it is done.

    Raises:
        BothwaysError: A row does not do, the output cannot be written, or an interrupted run had other settings.
    """
    began = time.perf_counter()
    target = find_target(out, tuple(asked.kinds), shard_rows=how.shard_rows, overwrite=how.overwrite)
    shape = dict if target is None else asked.kinds[target.kind]
    bounds = [stream.FIRST, stream.WINDOW, stream.LETTERS]
    windows = {"window": bounds, "shard_rows": target.shard_rows if target else None}
    with _output(target, {**settings, **windows}, how.resume) as output:
        before = output.state.rows
        if output.state.whole:
            _check_same(asked.rows, output.state)
        else:
            with _telling(output, target), _workers(asked.answer, how, model) as workers:
                _answer(asked, output, workers, shape, target)
        output.finish()
        state = output.state
    stream.warn_of(state.truncation, model)
    seconds = time.perf_counter() - began
    return BulkResult(state.rows, seconds, state.truncation, str(out), state.tokens, before)


def _check_same(rows: Iterator[Asked], state: State) -> None:
    """Refuses rows that are not those which a whole output, of a run that did not come to name it, answers.

    Raises:
        BothwaysError: They are others, or more.
    """
    if next(_Reading(rows, state).parts(None), None) is not None:
        raise BothwaysError(
            f"the input has changed: it has more than the {state.rows:,} rows that the interrupted run read; "
            "--no-resume begins anew"
        )


def _answer(
    asked: Question, output: Output, workers: Workers, shape: Callable[[Slice], Slice], target: Target | None
) -> None:
    reading = _Reading(asked.rows, output.state)
    total = rows_of(asked.table) if asked.table is not None else None
    parts = reading.parts(target.shard_rows if target else None)
    tokens = output.state.tokens
    with progress("Reading both ways", total, "texts", before=output.state.rows) as job:
        first = next(parts, None)
        if target is not None and first is not None and total is not None and total > len(first.rows):
            row_bytes = _row_bytes(asked, first.rows[:_TASTE], workers, shape, target)
            say(expected(total, row_bytes, target.path))
        for part, found in _answered(asked, chain([] if first is None else [first], parts), workers):
            columns = shape(together(part.rows, found.answers))
            output.append(columns, len(part.rows), part.digest, found.tokens, found.truncation)
            computed = output.state.tokens - tokens
            give_back()
            job.reach(output.state.rows, f"{computed / max(job.seconds, 1e-9):,.0f} tokens/s")


def _answered(asked: Question, parts: Iterable[Part], workers: Workers) -> Iterator[tuple[Part, Done]]:
    """Windows with their answers, as `in_order` gives them; of a text that is too long it is told where its row is."""
    under_way: deque[list[Asked]] = deque()

    def inputs(part: Part) -> tuple[list[Any], ...]:
        under_way.append(part.rows)
        return _columns(part.rows)

    try:
        for part, found in in_order(parts, workers, inputs):
            under_way.popleft()
            yield part, found
    except TooLongError as error:
        raise _placed(error, under_way[0], asked.answer) from None


def _placed(error: TooLongError, rows: Sequence[Asked], answer: Callable[..., Slice]) -> BothwaysError:
    """The error with the place of a row that is too long.

    The error counts what the model made of rows, which may be several texts each. So rows are asked alone, first the
    one that it would be if they were single texts, then the longest ones; one that is too long is refused at once.
    """
    longest = sorted(rows, key=lambda row: -letters(row.inputs))
    for row in (*rows[error.place : error.place + 1], *longest):
        try:
            done(answer, _columns([row]))
        except TooLongError as alone:
            return BothwaysError(alone.told(row.where)) if row.where else alone
    return error


def _columns(rows: Sequence[Asked]) -> tuple[list[Any], ...]:
    return tuple(list(column) for column in zip(*(row.inputs for row in rows), strict=True))


def _row_bytes(
    asked: Question, rows: list[Asked], workers: Workers, shape: Callable[[Slice], Slice], target: Target
) -> float:
    """About how many bytes a row of the output takes."""
    ((_, found),) = _answered(asked, [Part(rows, "")], workers)
    piece = make_format(target.kind, target.compression).piece(shape(together(rows, found.answers)))
    return len(piece) / len(rows)


class _Reading:
    """Rows as windows; the windows are the same however often a run was interrupted.

    Args:
        rows: All of them.
        state: Says how many are answered.

    Raises:
        BothwaysError: Those that are answered are not the first of these.
    """

    def __init__(self, rows: Iterator[Asked], state: State) -> None:
        self._rows, self._count = rows, 0
        self._digest = hashlib.blake2b(digest_size=16)
        for row in islice(rows, state.rows):
            self._note(row)
        if state.rows and (self._count, self._digest.hexdigest()) != (state.rows, state.digest):
            raise BothwaysError(
                f"the input has changed: its first {state.rows:,} rows are not those that the interrupted run read; "
                "--no-resume begins anew"
            )

    def _note(self, row: Asked) -> None:
        self._count += 1
        self._digest.update(repr((row.inputs, dict(row.beside))).encode("utf-8", "surrogatepass"))

    def parts(self, shard_rows: int | None) -> Iterator[Part]:
        """What is not answered yet.

        Args:
            shard_rows: Where windows end at the latest: at every so many rows.
        """
        part: list[Asked] = []
        size, most = 0, self._most()
        for row in self._rows:
            self._note(row)
            part.append(row)
            size += letters(row.inputs)
            ends = shard_rows is not None and self._count % shard_rows == 0
            if ends or len(part) == most or size >= stream.LETTERS:
                yield Part(part, self._digest.hexdigest())
                part, size, most = [], 0, self._most()
        if part:
            yield Part(part, self._digest.hexdigest())

    def _most(self) -> int:
        """Rows of the next window: as many as were before it, within bounds."""
        return min(stream.WINDOW, max(stream.FIRST, self._count))


@dataclass
class _Stdout:
    """Standard output: JSON lines, which nobody can go on with."""

    state: State = field(default_factory=lambda: State({}))

    def append(self, columns: Slice, rows: int, digest: str, tokens: int, truncation: Truncation) -> None:
        """As `Output.append` says."""
        sys.stdout.write(JsonLines().piece(columns).decode("utf-8"))
        sys.stdout.flush()
        state = self.state
        self.state = State(
            {},
            rows=state.rows + rows,
            tokens=state.tokens + tokens,
            truncation=state.truncation + truncation,
        )

    def finish(self) -> None:
        """As `Output.finish` says."""


@contextmanager
def _output(target: Target | None, settings: Mapping[str, Any], resume: bool) -> Iterator[Output]:
    if target is None:
        yield _Stdout()
        return
    with open_draft(target, settings, resume=resume) as draft:
        yield draft


@contextmanager
def _telling(output: Output, target: Target | None) -> Iterator[None]:
    """Says after whatever went wrong what is kept all the same."""
    try:
        yield
    except NotWrittenError:
        raise
    except BaseException as error:
        rows = output.state.rows
        if target is None or not rows:
            raise
        if isinstance(error, BothwaysError):
            raise BothwaysError(f"{error}; {kept(rows, target)}") from error
        say(kept(rows, target))
        raise


def _workers(answer: Callable[..., Slice], how: How, model: Questions) -> AbstractContextManager[Workers]:
    if how.on is None:
        if how.workers is not None:
            raise BothwaysError("workers are the processes of a cluster; say where it is with --on ray")
        return Threads(answer)
    if how.on != "ray":
        raise BothwaysError(f"a job runs here or on 'ray', not on {how.on!r}")
    from bothways.use.cluster import ray_workers

    return ray_workers(answer, how.workers, model)
