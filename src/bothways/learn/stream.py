"""Where the loop's batches come from: examples in a shuffled order whose position is data.

Several processes share a step: its examples go round among them, so each example is read by one of them. They tell each
other the lengths of what they have read, and so know where the step ends: where it would in one process.

Shapes: S sequences in a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from bothways.batch import TokenBatch, budget_batches, make_batch
from bothways.learn.objectives.protocol import Key, Targets
from bothways.learn.processes import here
from bothways.learn.protocol import Item
from bothways.learn.reader import Reader
from bothways.text.order import Order
from bothways.text.shards import LeftOutError


class Examples(Protocol):
    """Numbered examples: token ids and segment ids first, then whatever the collator needs.

    An example of several sequences that have to stay in one batch has tuples of them there.
    """

    def __len__(self) -> int:
        """How many there are."""
        ...

    def sequence(self, epoch: int, number: int) -> Sequence[Any]:
        """One example, a pure function of its arguments."""
        ...


Finish = Callable[[TokenBatch, list[Key], list[Sequence[Any]], float], tuple[TokenBatch, Targets]]
"""Makes targets for a batch; keys and examples come in the order of the batch, then the progress of the run."""


class Stream:
    """Optimizer steps of examples, in an order that is a pure function of seed and epoch.

    Args:
        examples: Where sequences come from.
        finish: Makes the targets.
        numbers: ``(N,)`` the examples to use; all when not given.
        batch_tokens: A step is filled until it holds this many tokens; or
        batch_size: a step holds this many sequences.
        micro_tokens: A step with more tokens than this is split into several batches.
        epochs: After so many passes the stream ends; None for never.
        copies: After so many passes examples and targets repeat themselves; None for never.
        seed: Of the order.
        run: Examples that lie near each other, where reading anywhere is dear; then what comes next is read ahead.
    """

    def __init__(
        self,
        examples: Examples,
        finish: Finish,
        *,
        numbers: np.ndarray | None = None,
        batch_tokens: int | None = None,
        batch_size: int | None = None,
        micro_tokens: int = 16_384,
        epochs: int | None = None,
        copies: int | None = None,
        seed: int = 0,
        run: int | None = None,
    ) -> None:
        self.examples, self.finish = examples, finish
        self.numbers = np.arange(len(examples)) if numbers is None else numbers
        self.batch_tokens, self.batch_size, self.micro_tokens = batch_tokens, batch_size, micro_tokens
        self.epochs, self.copies = epochs, copies
        self.order = Order(len(self.numbers), seed, run=run)
        self._reader = None if run is None else Reader(self._touch)
        self._usual = here().count

    @property
    def epoch(self) -> float:
        """Passes over the examples so far."""
        return self.order.epoch + self.order.cursor / len(self.numbers)

    def next_step(self, progress: float) -> list[Item] | None:
        """The batches of the next optimizer step, of this process's examples; None when the last epoch is over.

        Args:
            progress: Share of the run's steps taken before this one; targets may depend on it.
        """
        found: list[tuple[Key, Sequence[Any] | None]] = []
        count = tokens = 0
        while not self._full(count, tokens):
            before, at = self.order.state(), self.order.taken
            keys = self._next_keys(self._wanted(count, tokens))
            if not keys:
                break
            own = [(key, readable(self.examples, key)) for key in self._own(keys, at)]
            fitting = 0
            lengths = [0 if example is None else _tokens(example) for _, example in own]
            for length in self._lengths(lengths, len(keys), at):
                if self._full(count + fitting, tokens):  # what is read beyond the step is left for the next
                    self.order.restore(before)
                    self._next_keys(fitting)
                    break
                fitting, tokens = fitting + 1, tokens + length
            found += own[: len(self._own(keys[:fitting], at))]
            count += fitting
        self._usual = max(count, here().count)
        if self._reader:
            self._reader.follow(self.order)
        if not count:
            return None
        read = [(key, example) for key, example in found if example is not None]
        return split_items([key for key, _ in read], [one for _, one in read], self.finish, self.micro_tokens, progress)

    def _touch(self, epoch: int, place: int) -> None:
        """Reads an example, for what lies near it to be at hand."""
        readable(self.examples, (epoch, int(self.numbers[place])))

    def _full(self, count: int, tokens: int) -> bool:
        """Whether a step of so many examples and tokens is full."""
        if self.batch_tokens is not None:
            return tokens >= self.batch_tokens
        return count >= (self.batch_size or 1)

    def _wanted(self, count: int, tokens: int) -> int:
        """How many more examples to read before looking again: one, or where looking is dear about as many as fit."""
        if here().alone:
            return 1
        if self.batch_tokens is None:
            return (self.batch_size or 1) - count
        return math.ceil((self.batch_tokens - tokens) * count / tokens) if tokens else self._usual

    def _own(self, keys: list[Key], at: int) -> list[Key]:
        """Those of some keys that are this process's.

        Args:
            keys: The keys.
            at: How many were taken before them since the run began.
        """
        return keys[(here().rank - at) % here().count :: here().count]

    def _lengths(self, own: list[int], count: int, at: int) -> list[int]:
        """The tokens of as many examples, from those of each process's own."""
        told = [iter(each) for each in here().gathered(own, data=True)]
        return [next(told[place % here().count]) for place in range(at, at + count)]

    def _next_keys(self, count: int) -> list[Key]:
        """So many keys, or as many as are left in the epoch; none after the last epoch."""
        if self.epochs is not None and self.order.epoch >= self.epochs:
            return []
        epochs, places = self.order.take(min(count, self.order.count - self.order.cursor))
        epoch = int(epochs[0])
        return [(epoch if self.copies is None else epoch % self.copies, int(self.numbers[place])) for place in places]

    def state(self) -> dict[str, int]:
        """The position, for a checkpoint."""
        return self.order.state()

    def restore(self, state: dict[str, int]) -> None:
        """Goes on from a position."""
        self.order.restore(state)


def readable(examples: Examples, key: Key) -> Sequence[Any] | None:
    """An example; None if it lies in a shard that is left out."""
    try:
        return examples.sequence(*key)
    except LeftOutError:
        return None


def split_items(
    keys: list[Key], found: list[Sequence[Any]], finish: Finish, micro_tokens: int, progress: float = 0.0
) -> list[Item]:
    """Packs examples into batches of at most `micro_tokens` tokens each, with their targets.

    `finish` is given key and example of each sequence; the sequences of one example are counted by the batch's `rows`
    one after the other.
    """
    items = []
    for places in budget_batches([_tokens(example) for example in found], micro_tokens):
        parts = [_sequences(found[place]) for place in places]
        batch = make_batch([ids for own, _ in parts for ids in own], [segments for _, own in parts for segments in own])
        rows = np.repeat(places, [len(own) for own, _ in parts])[batch.rows]
        items.append(finish(batch, [keys[row] for row in rows], [found[row] for row in rows], progress))
    return items


def _sequences(example: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any]]:
    """Token ids and segment ids of all sequences of an example."""
    ids, segments = example[0], example[1]
    return (ids, segments) if isinstance(ids, tuple) else ([ids], [segments])


def _tokens(example: Sequence[Any]) -> int:
    return sum(map(len, _sequences(example)[0]))
