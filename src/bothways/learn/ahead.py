"""The next step's data, prepared by a thread while the present step is computed.

What a stream makes is a pure function of its position and of the run's progress, and both are known before: so the data
are the same to the bit, whether they were prepared ahead or not. The position that a checkpoint remembers is that of
the steps which were taken, not of what lies ready.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import torch

from bothways.learn.protocol import Item, Stream


def prepares_ahead(device: torch.device) -> bool:
    """Whether preparing ahead pays: on a processor the thread would only take time from the training."""
    return device.type != "cpu"


class _Ready(NamedTuple):
    """A prepared step, what it was prepared for, and where the stream stands after it."""

    items: list[Item] | None
    progress: float
    state: dict[str, Any]
    epoch: float | None


class Ahead:
    """A stream that can prepare a step in advance. Closed, it waits for its thread and puts the stream where it stands.

    Args:
        stream: Where the items come from. While this stands before it, nobody else may move it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pool = ThreadPoolExecutor(1, "data")
        self._future: Future[_Ready] | None = None
        self._now = self._position()

    def __enter__(self) -> Ahead:
        return self

    def __exit__(self, *exception: object) -> None:
        waiting = self._future is not None
        self._discard()
        self._pool.shutdown()
        if waiting:
            self._stream.restore(self._now[0])

    @property
    def epoch(self) -> float | None:
        """Passes over the data so far; None if the stream does not know."""
        return self._now[1]

    def next_step(self, progress: float, then: float | None = None) -> list[Item] | None:
        """The items of the next step; None at the end.

        Args:
            progress: Share of the run's steps taken before this one.
            then: The same for the step after it, which is prepared from now on; None prepares nothing.

        Raises:
            BaseException: Whatever the stream raised, in the thread or here.
        """
        ready = self._taken(progress)
        if ready is None:
            ready = self._prepare(progress)
        self._now = ready.state, ready.epoch
        if then is not None and ready.items is not None:
            self._future = self._pool.submit(self._prepare, then)
        return ready.items

    def state(self) -> dict[str, Any]:
        """The position after the steps that were taken."""
        return self._now[0]

    def restore(self, state: dict[str, Any]) -> None:
        """Goes to a position; what lies ready is thrown away."""
        self._discard()
        self._stream.restore(state)
        self._now = self._position()

    def _taken(self, progress: float) -> _Ready | None:
        """What lies ready for this progress, if anything does."""
        if self._future is None:
            return None
        future, self._future = self._future, None
        ready = future.result()
        if ready.progress == progress:
            return ready
        self._stream.restore(self._now[0])  # the run's length has changed: its targets may have, too
        return None

    def _discard(self) -> None:
        future, self._future = self._future, None
        if future is not None and not future.cancel():
            future.exception()  # waits; what went wrong with data that nobody wants is nobody's concern

    def _prepare(self, progress: float) -> _Ready:
        return _Ready(self._stream.next_step(progress), progress, *self._position())

    def _position(self) -> tuple[dict[str, Any], float | None]:
        return self._stream.state(), getattr(self._stream, "epoch", None)
