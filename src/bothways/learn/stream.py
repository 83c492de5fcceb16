"""Where the loop's batches come from: examples in a shuffled order whose position is data.

Shapes: S sequences in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from bothways.batch import TokenBatch, budget_batches, make_batch
from bothways.learn.objectives.protocol import Key, Targets
from bothways.learn.protocol import Item
from bothways.text.order import Order


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
    ) -> None:
        self.examples, self.finish = examples, finish
        self.numbers = np.arange(len(examples)) if numbers is None else numbers
        self.batch_tokens, self.batch_size, self.micro_tokens = batch_tokens, batch_size, micro_tokens
        self.epochs, self.copies = epochs, copies
        self.order = Order(len(self.numbers), seed)

    @property
    def epoch(self) -> float:
        """Passes over the examples so far."""
        return self.order.epoch + self.order.cursor / len(self.numbers)

    def next_step(self, progress: float) -> list[Item] | None:
        """The batches of the next optimizer step; None when the last epoch is over.

        Args:
            progress: Share of the run's steps taken before this one; targets may depend on it.
        """
        keys: list[Key] = []
        found: list[Sequence[Any]] = []
        tokens = 0
        while not self._full(len(keys), tokens) and (key := self._next_key()) is not None:
            keys.append(key)
            found.append(self.examples.sequence(*key))
            tokens += _tokens(found[-1])
        return split_items(keys, found, self.finish, self.micro_tokens, progress) or None

    def _full(self, sequences: int, tokens: int) -> bool:
        if self.batch_tokens is not None:
            return tokens >= self.batch_tokens
        return sequences >= (self.batch_size or 1)

    def _next_key(self) -> Key | None:
        if self.epochs is not None and self.order.epoch >= self.epochs:
            return None
        epochs, places = self.order.take(1)
        epoch = int(epochs[0])
        return epoch if self.copies is None else epoch % self.copies, int(self.numbers[places[0]])

    def state(self) -> dict[str, int]:
        """The position, for a checkpoint."""
        return self.order.state()

    def restore(self, state: dict[str, int]) -> None:
        """Goes on from a position."""
        self.order.restore(state)


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
