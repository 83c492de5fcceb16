"""A shuffled order without end, whose position is a few numbers.

Each epoch is one permutation, a pure function of (seed, epoch), so any process that knows the position goes on with
the same ids.

Where reading anywhere is dear, ids that lie near each other are to be read near each other: they are cut into runs, the
runs are shuffled, and then the ids of a few runs at a time. So only those runs have to be at hand, and a process can
know which it will want next.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError

TOGETHER = 16
"""Runs whose ids are shuffled together."""


class Order:
    """The numbers 0 .. count - 1, shuffled anew each epoch, for ever.

    It holds the permutation of the present epoch, or of its present runs: 4 bytes an id, 8 above two thousand million.

    Args:
        count: How many ids there are.
        seed: What the shuffling depends on beside the epoch.
        epoch: Where to begin: the epoch, and
        cursor: how many of its ids are taken already.
        run: Ids that lie near each other; None where all do.

    Attributes:
        count: How many ids there are.
        seed: What the shuffling depends on beside the epoch.
        epoch: The epoch of the next id.
        cursor: How many ids of that epoch have been taken; less than `count`.
    """

    def __init__(self, count: int, seed: int, epoch: int = 0, cursor: int = 0, run: int | None = None) -> None:
        if count < 1:
            raise BothwaysError("there is nothing to put in order: no examples; give more text or a shorter length")
        if not 0 <= cursor < count or epoch < 0:
            raise BothwaysError(f"epoch {epoch}, cursor {cursor} is no position in an order of {count:,} examples")
        self.count, self.seed, self.epoch, self.cursor = count, seed, epoch, cursor
        self._run = count if run is None else max(1, run)
        self._part = self._find_part()

    def take(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Takes the next n ids.

        Returns:
            ``(n,)`` int64 their epochs and ``(n,)`` int64 the ids.
        """
        epochs, ids = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
        done = 0
        while done < n:
            if not self._part.holds(self.epoch, self.cursor):
                self._part = self._find_part()
            at = self.cursor - self._part.begin
            here = min(n - done, len(self._part.ids) - at)
            ids[done : done + here] = self._part.ids[at : at + here]
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
        kind = {"count": self.count, "seed": self.seed, "run": self._run}
        return {**kind, "epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, int]) -> None:
        """Goes to a saved position.

        Raises:
            BothwaysError: The position is one in another order.
        """
        for name, here in (("count", self.count), ("seed", self.seed)):
            if state[name] != here:
                raise BothwaysError(f"the saved position belongs to an order of {name} {state[name]}, not {here}")
        run = state.get("run", self._run)  # positions that were saved before there were any runs have none
        if run != self._run:
            raise BothwaysError(
                f"the saved position belongs to an order in runs of {run:,} ids, not {self._run:,}, as a corpus has in "
                "an object store and not on a disk: continue with the corpus where it lay then, or begin anew"
            )
        self.epoch, self.cursor = state["epoch"], state["cursor"]

    def coming(self) -> tuple[int, np.ndarray]:
        """The epoch, and the first and the last id of each of its runs that come after the present ones."""
        last = self._part.begin + len(self._part.ids) == self.count
        epoch, number = (self._part.epoch + 1, 0) if last else (self._part.epoch, self._part.number + 1)
        runs = self._runs(epoch)[number * TOGETHER : (number + 1) * TOGETHER]
        begins = runs * self._run
        return epoch, np.concatenate([begins, np.minimum(begins + self._run, self.count) - 1])

    @property
    def present(self) -> tuple[int, int]:
        """The epoch of the runs that are at hand, and their number in it."""
        return self._part.epoch, self._part.number

    def _runs(self, epoch: int) -> np.ndarray:
        """The runs of an epoch in their order."""
        runs = np.arange(-(-self.count // self._run))
        if len(runs) > 1:
            generator("runs", self.seed, epoch).shuffle(runs)
        return runs

    def _find_part(self) -> _Part:
        """The runs that hold the next id."""
        runs = self._runs(self.epoch)
        begins = runs * self._run
        sizes = np.minimum(begins + self._run, self.count) - begins
        ends = np.cumsum(np.add.reduceat(sizes, np.arange(0, len(runs), TOGETHER)))
        number = int(np.searchsorted(ends, self.cursor, side="right"))
        chosen = slice(number * TOGETHER, (number + 1) * TOGETHER)
        kind = np.int32 if self.count <= np.iinfo(np.int32).max else np.int64
        parts = [np.arange(a, a + n, dtype=kind) for a, n in zip(begins[chosen], sizes[chosen], strict=True)]
        ids = np.concatenate(parts)
        generator("order", self.seed, self.epoch, *([number] if len(ends) > 1 else [])).shuffle(ids)
        return _Part(self.epoch, number, int(ends[number]) - len(ids), ids)


class _Part(NamedTuple):
    """Runs whose ids are shuffled together, and where they begin in their epoch."""

    epoch: int
    number: int
    begin: int
    ids: np.ndarray

    def holds(self, epoch: int, cursor: int) -> bool:
        """Whether the id at a position is one of these."""
        return self.epoch == epoch and self.begin <= cursor < self.begin + len(self.ids)
