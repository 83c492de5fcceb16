"""The processes of one run, as `torchrun` starts them: who is first, what each does, what all of them know.

A run in one process is the usual case, and there nothing here does anything. Several processes say to each other what
they have found as plain data, in messages that wait for nobody's device (gloo). The first process alone writes and
speaks.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import distributed
from torch.distributed.rendezvous import rendezvous

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.progress import silent, speaks

P = ParamSpec("P")
T = TypeVar("T")

_MESSAGE = 4096
"""Bytes of a message that goes in one piece."""
_SILENCE = timedelta(minutes=30)
"""Without an answer for so long, another process is taken for lost."""


@dataclass(frozen=True)
class Processes:
    """The processes of this run.

    Attributes:
        rank: The number of this one, from 0.
        count: How many there are.
    """

    rank: int = 0
    count: int = 1
    _talk: Any = field(default=None, repr=False)
    _data: Any = field(default=None, repr=False)

    @property
    def alone(self) -> bool:
        """Whether there is only this one."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def share(self, things: Any) -> Any:
        """Those of a sequence or an array that are this process's: every one of them is exactly one process's."""
        return things[self.rank :: self.count]

    def gathered(self, value: T, *, data: bool = False) -> list[T]:
        """What each process has, by rank. All of them have to ask.

        Args:
            value: Anything that JSON can hold, exactly.
            data: Whether the thread asks that prepares data, which talks beside the others.

        Raises:
            BothwaysError: Another process is gone.
        """
        if self.alone:
            return [value]
        with explained():
            return [
                json.loads(text) for text in _exchange(json.dumps(value).encode(), self._data if data else self._talk)
            ]

    def summed(self, values: Mapping[str, T]) -> dict[str, T]:
        """The sums of numbers by name over all processes; a name that a process has not got counts nothing there."""
        total: dict[str, Any] = {}
        for part in self.gathered(dict(values)):
            for name, value in part.items():
                total[name] = total.get(name, 0) + value
        return total

    def first_says(self, value: T) -> T:
        """What the first process has."""
        return self.gathered(value if self.first else None)[0]  # type: ignore[return-value]

    def agreed(self, signal: int | None, stopped: str | None, due: bool) -> tuple[int | None, str | None, bool]:
        """A signal that any process was sent, why any of them stops, and whether the first finds saving due."""
        signals, ends, dues = zip(*self.gathered((signal, stopped, due)), strict=True)
        return next(filter(None, signals), None), next(filter(None, ends), None), dues[0]

    def in_turn(self, make: Callable[[], T], find: Callable[[], T]) -> T:
        """What the first process makes, and the others find when it is made, however long that takes."""
        if self.alone:
            return make()
        store, key = distributed.distributed_c10d._get_default_store(), f"bothways/{self._turns()}"
        if self.first:
            made = make()
            store.set(key, "made")
            return made
        while not store.check([key]):  # not store.wait, which no signal ends
            time.sleep(0.05)
        return find()

    def _turns(self) -> int:
        """The number of this turn, the same in all processes."""
        global _turn
        _turn += 1
        return _turn


_here, _turn = Processes(), 0


def here() -> Processes:
    """The processes of the run that goes on here; this one alone, if none does."""
    return _here


def started() -> int:
    """How many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def refuse_several(what: str) -> None:
    """Refuses to do in several processes what would only be done several times.

    Raises:
        BothwaysError: `torchrun` has started several.
    """
    if started() > 1 and here().alone:
        error = BothwaysError(
            f"{what} runs in one process, but torchrun has started {started()}: start it without torchrun, or with "
            "--nproc-per-node 1"
        )
        error.told_already = not speaks()
        raise error


def in_one_process(what: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a verb refuse to be done in several processes, before it does anything.

    Args:
        what: What it does, to begin a sentence with.
    """

    def made(verb: Callable[P, T]) -> Callable[P, T]:
        @wraps(verb)
        def run(*arguments: P.args, **settings: P.kwargs) -> T:
            refuse_several(what)
            return verb(*arguments, **settings)

        return run

    return made


def in_all_processes(verb: Callable[P, T]) -> Callable[P, T]:
    """Makes a verb work in all the processes that `torchrun` has started, as one run."""

    @wraps(verb)
    def run(*arguments: P.args, **settings: P.kwargs) -> T:
        with _begun():
            return verb(*arguments, **settings)

    return run


@contextmanager
def _begun() -> Iterator[None]:
    """Joins the processes while the block runs; those that are not the first are silent."""
    global _here, _turn
    if started() == 1 or not _here.alone:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    ours = not distributed.is_initialized()  # Ray Train has begun already
    if ours:
        # torchrun may keep its store when it starts processes again: what the last ones wrote must not be read
        store, own, count = next(rendezvous("env://", timeout=_SILENCE))
        store = distributed.distributed_c10d.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
        # gloo for what lies on the host, nccl for what lies on a GPU
        distributed.init_process_group(store=store, rank=own, world_size=count, timeout=_SILENCE)
    try:
        talk, data = (distributed.new_group(backend="gloo", timeout=_SILENCE) for _ in range(2))
        _here, _turn = Processes(distributed.get_rank(), distributed.get_world_size(), talk, data), 0
        with warnings.catch_warnings():
            if not _here.first:
                warnings.simplefilter("ignore", BothwaysWarning)
                silent()
            yield
    except BothwaysError as error:
        error.told_already = _told(str(error))
        raise
    finally:
        silent(False)
        _here = Processes()
        if ours:
            distributed.destroy_process_group()


def _told(sentence: str) -> bool:
    """Whether another process has told this already; who asks first is the one to tell it."""
    with suppress(RuntimeError):  # the process that keeps the record may be gone
        return distributed.distributed_c10d._get_default_store().add(f"bothways/told/{sentence}", 1) > 1
    return False


@contextmanager
def explained() -> Iterator[None]:
    """Says in one sentence that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        if here().alone or not any(sign in str(error) for sign in _GONE):
            raise
        raise BothwaysError(
            "another process of this run is gone (its own message says why, if it could leave one); the same command "
            "continues from the last checkpoint"
        ) from None


_GONE = ("Connection", "connection", "gloo", "NCCL", "Timed out", "timed out")
"""What torch says where others do not answer."""


def _exchange(message: bytes, group: Any) -> list[bytes]:
    """The messages of all processes; a long one takes a second round."""
    head = len(message).to_bytes(8, "little") + message[: _MESSAGE - 8]
    heads = _all(head.ljust(_MESSAGE, b"\0"), group)
    lengths = [int.from_bytes(each[:8], "little") for each in heads]
    longest = max(lengths)
    if longest > _MESSAGE - 8:
        heads = [bytes(8) + each for each in _all(message.ljust(longest, b"\0"), group)]
    return [each[8 : 8 + length] for each, length in zip(heads, lengths, strict=True)]


def _all(message: bytes, group: Any) -> Sequence[bytes]:
    own = torch.frombuffer(bytearray(message), dtype=torch.uint8)
    found = [torch.empty_like(own) for _ in range(distributed.get_world_size(group))]
    distributed.all_gather(found, own, group=group)
    return [each.numpy().tobytes() for each in found]
