"""A shuffled order without end, whose position is a few numbers.

Each epoch is one permutation, a pure function of (seed, epoch), so any process that knows the position goes on with
the same ids.
"""

from __future__ import annotations

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError


class Order:
    """The numbers 0 .. count - 1, shuffled anew each epoch, for ever.

    It holds the permutation of the present epoch: 4 bytes an id, 8 above two thousand million.

    Attributes:
        count: How many ids there are.
        seed: What the shuffling depends on beside the epoch.
        epoch: The epoch of the next id.
        cursor: How many ids of that epoch have been taken; less than `count`.
    """

    def __init__(self, count: int, seed: int, epoch: int = 0, cursor: int = 0) -> None:
        if count < 1:
            raise BothwaysError("there is nothing to put in order: no examples; give more text or a shorter length")
        if not 0 <= cursor < count or epoch < 0:
            raise BothwaysError(f"epoch {epoch}, cursor {cursor} is no position in an order of {count:,} examples")
        self.count, self.seed, self.epoch, self.cursor = count, seed, epoch, cursor
        self._shuffled = epoch, self._shuffle(epoch)

    def take(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Takes the next n ids.

        Returns:
            ``(n,)`` int64 their epochs and ``(n,)`` int64 the ids.
        """
        epochs, ids = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        done = 0
        while done < n:
            if self._shuffled[0] != self.epoch:
                self._shuffled = self.epoch, self._shuffle(self.epoch)
            here = min(n - done, self.count - self.cursor)
            ids[done : done + here] = self._shuffled[1][self.cursor : self.cursor + here]
            epochs[done : done + here] = self.epoch
            done += here
            self.epoch, self.cursor = divmod(self.epoch * self.count + self.cursor + here, self.count)
        return epochs, ids

    @property
    def taken(self) -> int:
        """How many ids have been taken in all."""
        return self.epoch * self.count + self.cursor

    def state(self) -> dict[str, int]:
        """The position, as plain data."""
        return {"count": self.count, "seed": self.seed, "epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, int]) -> None:
        """Goes to a saved position.

        Raises:
            BothwaysError: The position is one in another order.
        """
        for name, here in (("count", self.count), ("seed", self.seed)):
            if state[name] != here:
                raise BothwaysError(f"the saved position belongs to an order of {name} {state[name]}, not {here}")
        self.epoch, self.cursor = state["epoch"], state["cursor"]

    def _shuffle(self, epoch: int) -> np.ndarray:
        ids = np.arange(self.count, dtype=np.int32 if self.count <= np.iinfo(np.int32).max else np.int64)
        generator("order", self.seed, epoch).shuffle(ids)
        return ids
