"""Answers on their way to a file: kept from a kill, and gone on with by the next run.

Beside the output stands a hidden folder with a draft, the shards that are finished, and the state: how many rows were
answered, and how many bytes of the draft they take. The draft grows first, then the state is replaced; so after a kill
at any moment what the draft has beyond the state is cut off, and the next run goes on as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.progress import say
from bothways.run.files import locked, replace_folder
from bothways.text.truncation import Truncation
from bothways.use.formats import Slice, make_format
from bothways.use.target import LOCK, STATE, Target
from bothways.whole import replace_text, sync

_VERSION = 1
_DRAFT = "draft"


@dataclass(frozen=True)
class State:
    """How far a job is.

    Attributes:
        settings: What decides on the answers; another run goes on only with the same.
        rows: Rows answered and kept.
        digest: A hash of those rows as they were read.
        shard: The number of the shard that is being written.
        begun: The number of its first row.
        size: Bytes of its draft.
        tokens: Tokens computed.
        truncation: What was cut.
        whole: Whether all rows are there and all shards finished.
    """

    settings: Mapping[str, Any]
    rows: int = 0
    digest: str = ""
    shard: int = 0
    begun: int = 0
    size: int = 0
    tokens: int = 0
    truncation: Truncation = field(default_factory=Truncation)
    whole: bool = False


class NotWrittenError(BothwaysError):
    """The output cannot be written; the sentence says what is kept."""


class Draft:
    """An output that is being written; made by `open_draft`.

    Attributes:
        state: How far it is.
    """

    def __init__(self, target: Target, state: State) -> None:
        self.target, self.state = target, state
        self._path = target.work / _DRAFT
        self._format = make_format(target.kind, target.compression)
        self._go_on()

    @property
    def room(self) -> int | None:
        """Rows that the present shard can still take; None for any number."""
        rows = self.target.shard_rows
        return None if rows is None else rows - (self.state.rows - self.state.begun)

    def append(self, columns: Slice, rows: int, digest: str, tokens: int, truncation: Truncation) -> None:
        """Adds answers and keeps them.

        Args:
            columns: The answers; as many rows as there is `room` for, at most.
            rows: How many rows they are.
            digest: A hash of all rows up to these as they were read.
            tokens: Tokens computed for them.
            truncation: What was cut of them.

        Raises:
            BothwaysError: They cannot be written; what was kept before stays.
        """
        state = self.state
        piece = self._format.piece(columns)
        with self._kept():
            with self._path.open("ab") as file:
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            self._remember(
                replace(
                    state,
                    rows=state.rows + rows,
                    digest=digest,
                    size=state.size + len(piece),
                    tokens=state.tokens + tokens,
                    truncation=state.truncation + truncation,
                )
            )
        if self.room == 0:
            self._finish_shard()

    def finish(self) -> None:
        """Gives the output its name.

        Raises:
            BothwaysError: It cannot be written; what was kept before stays.
        """
        if not self.state.whole:
            if self.state.rows > self.state.begun or not self.state.shard:
                self._finish_shard()
            with self._kept():
                self._remember(replace(self.state, whole=True))
        with self._kept():
            target = self.target
            if target.shard_rows is None:
                (target.work / target.shard(0)).replace(target.path)
                sync(target.path.parent)
                shutil.rmtree(target.work, ignore_errors=True)
            else:
                replace_folder(target.work, target.path, target.work.with_suffix(".old"))
                for name in (STATE, LOCK):
                    (target.path / name).unlink(missing_ok=True)

    def _finish_shard(self) -> None:
        with self._kept():
            self._path.touch()
            made = self._format.finish(self._path, self.state.rows - self.state.begun)
            sync(made)
            made.replace(self.target.work / self.target.shard(self.state.shard))
            self._path.unlink(missing_ok=True)
            self._remember(replace(self.state, shard=self.state.shard + 1, begun=self.state.rows, size=0))
        self._format = make_format(self.target.kind, self.target.compression)

    def _go_on(self) -> None:
        """Puts the draft where the state says that it is."""
        state, target = self.state, self.target
        if state.whole:
            if target.shard_rows is None and not (target.work / target.shard(0)).exists():  # it has its name already
                _empty(target.work)
                self.state = State(state.settings)
            return
        if state.size and not self._path.exists() and (target.work / target.shard(state.shard)).exists():
            with self._kept():  # stopped between finishing a shard and remembering it
                self._remember(replace(state, shard=state.shard + 1, begun=state.rows, size=0))
            return
        for path in target.work.glob(f"{_DRAFT}.*"):
            path.unlink()
        if not state.size:
            self._path.unlink(missing_ok=True)
            return
        if not self._path.exists() or self._path.stat().st_size < state.size:
            raise BothwaysError(f"{target.work} holds an interrupted run that is damaged; --no-resume begins anew")
        os.truncate(self._path, state.size)
        self._format.go_on(self._path)
        if self.room == 0:
            self._finish_shard()

    def _remember(self, state: State) -> None:
        told = json.dumps({"version": _VERSION, **asdict(state)}, ensure_ascii=False)
        replace_text(self.target.work / STATE, told)
        self.state = state

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Tells what could not be written, and what is there all the same."""
        try:
            yield
        except OSError as error:
            reason = f"cannot write {self.target.path}: {error.strerror or error}"
            if not self.state.rows:
                raise NotWrittenError(f"{reason}; nothing was left there") from error
            raise NotWrittenError(f"{reason}; {kept(self.state.rows, self.target)}") from error


def kept(rows: int, target: Target) -> str:
    """Says that a run can go on."""
    return f"{rows:,} rows are kept in {target.work}, and the same command goes on after them"


@contextmanager
def open_draft(target: Target, settings: Mapping[str, Any], *, resume: bool = True) -> Iterator[Draft]:
    """Opens an output, where an interrupted run left it if there was one.

    After an error in the block, what is kept stays if there is any.

    Args:
        target: The output.
        settings: What decides on the answers, as plain data.
        resume: Whether an interrupted run is gone on with; else it is thrown away.

    Raises:
        BothwaysError: The interrupted run had other settings, another run is writing there, or nothing can be written.
    """
    try:
        target.work.mkdir(exist_ok=True)
        (target.work / LOCK).touch()
    except OSError as error:
        raise BothwaysError(f"cannot write {target.path}: {error.strerror or error}; nothing was left there") from error
    with locked(target.work / LOCK) as free:
        if not free:
            raise BothwaysError(f"another run is writing {target.path}; wait for it, or choose another name")
        if not resume:
            _empty(target.work)
        settings = json.loads(json.dumps(settings, default=str))
        draft: Draft | None = None
        try:
            draft = Draft(target, _read_state(target, settings))
            if draft.state.rows:
                say(f"going on after {draft.state.rows:,} rows that an interrupted run has answered")
            yield draft
        finally:
            if draft is not None and not draft.state.rows:
                shutil.rmtree(target.work, ignore_errors=True)


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != LOCK:
            path.unlink()


def _read_state(target: Target, settings: Mapping[str, Any]) -> State:
    path = target.work / STATE
    if not path.exists():
        _empty(target.work)  # it was stopped before anything was kept
        return State(settings)
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("version")
        found["truncation"] = Truncation(**found["truncation"])
        state = State(**found) if version == _VERSION else None
    except (ValueError, TypeError, KeyError):
        state = None
    if state is None:
        raise BothwaysError(f"{target.work} holds an interrupted run of another version; --no-resume begins anew")
    for name in {**state.settings, **settings}:
        then, now = state.settings.get(name), settings.get(name)
        if then != now:
            raise BothwaysError(_other(target, name, then, now))
    return state


def _other(target: Target, name: str, then: Any, now: Any) -> str:
    begin = f"{target.work} holds an interrupted run"
    if name == "model":
        return f"{begin} of another model; --no-resume begins anew"
    return f"{begin} with {name} {then!r:.60}, not {now!r:.60}; --no-resume begins anew"
