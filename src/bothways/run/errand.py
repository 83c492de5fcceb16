"""Work that a thread does for somebody: it can be stopped between two batches, and counts for itself what it did.

An errand belongs to the thread that it is done in. What a thread does without one is not counted and runs to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bothways.batch import TokenBatch
from bothways.text.truncation import Truncation

_here = threading.local()


class StoppedError(Exception):
    """Nobody wants the rest of this work any more."""


@dataclass
class Errand:
    """What is known of the work while it is done.

    Attributes:
        stop: Set by whoever wants no more of it.
        truncation: What was cut; an errand never warns of it, whoever sent it says it once.
        tokens: Tokens that were computed.
    """

    stop: threading.Event = field(default_factory=threading.Event)
    truncation: Truncation = field(default_factory=Truncation)
    tokens: int = 0

    def watched(self, batches: Iterable[TokenBatch]) -> Iterator[TokenBatch]:
        """The same batches, counted.

        Raises:
            StoppedError: The errand was stopped; the batch before was the last.
        """
        for batch in batches:
            if self.stop.is_set():
                raise StoppedError
            self.tokens += batch.tokens
            yield batch


@contextmanager
def on_errand(stop: threading.Event | None = None) -> Iterator[Errand]:
    """Makes what this thread does in the block an errand."""
    before = current()
    _here.errand = Errand(stop or threading.Event())
    try:
        yield _here.errand
    finally:
        _here.errand = before


def current() -> Errand | None:
    """The errand that this thread is on."""
    found: Errand | None = getattr(_here, "errand", None)
    return found
