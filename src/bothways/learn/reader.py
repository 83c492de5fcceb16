"""Reads ahead what will be wanted next, in threads, where it comes from far away."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bothways.text.order import Order

_THREADS = 4
"""Files that are fetched at once."""


class Reader:
    """Reads the runs of an order before they are wanted.

    What cannot be read ahead is no mistake yet: whoever wants it will ask again, and be told why.

    Args:
        touch: Reads what lies at an id of an epoch.
    """

    def __init__(self, touch: Callable[[int, int], None]) -> None:
        self._touch = touch
        self._pool = ThreadPoolExecutor(_THREADS, "read-ahead")
        self._reading: list[Future[None]] = []
        self._followed: tuple[int, int] | None = None

    def follow(self, order: Order) -> None:
        """Begins to read what comes after the order's present runs, once for each of them."""
        if self._followed == order.present:
            return
        self._followed = order.present
        for each in self._reading:
            each.cancel()
        epoch, ids = order.coming()
        self._reading = [self._pool.submit(self._touch, epoch, int(each)) for each in ids]
