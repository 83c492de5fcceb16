"""The cores of this process, which all its engines share: no more threads compute at once than one engine may have."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from bothways.run.forked import renewed


class Cores:
    """Who computes.

    A batch that one thread runs holds one core, a batch that all threads share holds as many as they are. Whoever
    comes while too many are held waits its turn.

    Attributes:
        starting: Held while an engine begins its threads.
    """

    def __init__(self) -> None:
        renewed(self)

    def renew(self) -> None:
        """Nobody computes: in a child of this process no other thread does."""
        self._held = 0
        self._turn, self.starting = threading.Lock(), threading.Lock()
        self._changed = threading.Condition()
        self._pinned: set[int] = set()

    @contextmanager
    def held(self, count: int, limit: int) -> Iterator[None]:
        """Holds some cores while the block runs.

        Args:
            count: How many.
            limit: How many may be held at once, by all engines together.
        """
        with self._turn, self._changed:  # the turn is kept while waiting, so that one batch alone is not passed by
            self._changed.wait_for(lambda: self._held + count <= max(limit, count))
            self._held += count
        try:
            yield
        finally:
            with self._changed:
                self._held -= count
                self._changed.notify_all()

    @contextmanager
    def pinned(self, wanted: bool) -> Iterator[None]:
        """Keeps this thread to a core that no other pinned thread has, while the block runs and if that is wanted.

        It is one of those that the thread may have. Where there are more threads than cores, or a system without such a
        setting, the thread stays free.
        """
        before = os.sched_getaffinity(0) if wanted and hasattr(os, "sched_getaffinity") else set[int]()
        with self._changed:
            number = min(before - self._pinned, default=None)
            if number is not None:
                self._pinned.add(number)
        if number is None:
            yield
            return
        try:
            os.sched_setaffinity(0, {number})
            yield
        finally:
            os.sched_setaffinity(0, before)
            with self._changed:
                self._pinned.discard(number)


CORES = Cores()
