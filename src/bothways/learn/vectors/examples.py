"""Groups of texts as a model reads them: what the stream of a run takes its steps from.

Shapes: L tokens of a text.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Key
from bothways.learn.protocol import Item
from bothways.learn.stream import Finish, Stream
from bothways.learn.vectors.data import VectorData
from bothways.run.model import Model
from bothways.text.kept import Sequences
from bothways.text.tokenizer import warn_of_cut
from bothways.text.truncation import TooLongError, Truncation

BUDGET = "budget"
"""Under this name the most tokens of one pass stand beside a step."""
PACK = 4
"""Texts of one class that come together (Hermans et al. 2017, section 4, K)."""
_WAITING = 4
"""Groups that wait for another step: at most so many times the size of one, and this part of all."""

Group = tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...], np.ndarray]
"""Token ids and segment ids of each text of a group, and the places of the texts in the data."""


class GroupExamples:
    """Encoded groups.

    Args:
        model: It says how long a text may be.
        data: N groups.
        times: How often each group's texts are read, one after the other.

    Raises:
        BothwaysError: A text is too long, where that is an error.
    """

    def __init__(self, model: Model, data: VectorData, times: int = 1) -> None:
        self.data, self.times = data, times
        self.encoded = _encoded(model, data)

    def __len__(self) -> int:
        return len(self.data)

    def sequence(self, epoch: int, number: int) -> Group:
        """One group; the same in every epoch."""
        places = np.arange(self.data.starts[number], self.data.starts[number + 1])
        return self._group(np.tile(places, self.times))

    def _group(self, places: np.ndarray) -> Group:
        found = [self.encoded[place] for place in places]
        return tuple(ids for ids, _ in found), tuple(segments for _, segments in found), places


class Packs(GroupExamples):
    """Texts with classes, some of one class at a time: in every epoch they are dealt anew.

    Args:
        model: It says how long a text may be.
        data: Texts with classes.
        classes: ``(N,)`` their numbers.
        seed: Of how they are dealt.

    Raises:
        BothwaysError: There are fewer than two classes with two texts.
    """

    def __init__(self, model: Model, data: VectorData, classes: np.ndarray, seed: int = 0) -> None:
        super().__init__(model, data)
        counts = np.bincount(classes)
        if (counts > 1).sum() < 2:
            raise BothwaysError(
                f"{data.name} has fewer than two classes with two texts or more, and the loss mined compares them"
            )
        self._of = [np.flatnonzero(classes == number) for number in np.flatnonzero(counts > 1)]
        self._count = sum(len(own) // PACK or 1 for own in self._of)
        self._seed, self._dealt = seed, lru_cache(2)(self._deal)

    def __len__(self) -> int:
        return self._count

    def sequence(self, epoch: int, number: int) -> Group:
        """Some texts of one class."""
        return self._group(self._dealt(epoch)[number])

    def _deal(self, epoch: int) -> list[np.ndarray]:
        """All texts in packs, no smaller than two."""
        packs = []
        for number, own in enumerate(self._of):
            mixed = generator("packs", self._seed, epoch, number).permutation(own)
            packs += np.array_split(mixed, len(own) // PACK or 1)
        return packs


class Steps(Stream):
    """Steps of groups, in batches of at most `micro_tokens` tokens; or whole, however many tokens one has.

    Args:
        examples: Groups.
        finish: Makes the targets.
        whole: Whether a step is one batch.
        micro_tokens: The most tokens of one pass, which also stands beside each batch.
        settings: As of `Stream`.
    """

    def __init__(
        self, examples: GroupExamples, finish: Finish, *, whole: bool, micro_tokens: int, **settings: Any
    ) -> None:
        super().__init__(examples, finish, micro_tokens=sys.maxsize if whole else micro_tokens, **settings)
        self.budget = micro_tokens

    def next_step(self, progress: float) -> list[Item] | None:
        """The batches of the next optimizer step; None when the last epoch is over."""
        items = super().next_step(progress)
        return items and [(batch, {**targets, BUDGET: np.array(self.budget)}) for batch, targets in items]


class Apart(Steps):
    """Whole steps in which no text comes twice, so that none is its own negative.

    Groups that would bring a text again wait for the next step. Where too many wait, as when most rows have one text in
    common, or the data are over, they are taken all the same: losses know equal texts by their ids.

    Args:
        examples: Groups.
        finish: Makes the targets.
        settings: As of `Steps`.
    """

    def __init__(self, examples: GroupExamples, finish: Finish, **settings: Any) -> None:
        super().__init__(examples, finish, whole=True, **settings)
        self._ids = examples.data.ids
        self._waiting: list[Key] = []
        self._again: list[Key] = []
        self._taken: set[int] = set()

    def next_step(self, progress: float) -> list[Item] | None:
        """The batch of the next optimizer step; None when the last epoch is over."""
        self._again, self._waiting, self._taken = self._waiting, [], set()
        items = super().next_step(progress)
        self._waiting += self._again
        return items

    def _next_keys(self, count: int) -> list[Key]:
        most = min(_WAITING * (self.batch_size or 1), len(self.numbers) // _WAITING)
        found: list[Key] = []
        while len(found) < count:
            keys = [self._again.pop(0)] if self._again else super()._next_keys(1)
            if not keys:  # no later step could take them apart
                room = count - len(found)
                return found + [self._waiting.pop(0) for _ in self._waiting[:room]]
            own = set(self._ids[self.examples.sequence(*keys[0])[2]].tolist())
            waiting = len(self._waiting) + len(self._again)
            if own & self._taken and waiting < most:
                self._waiting += keys
                continue
            self._taken |= own
            found += keys
        return found

    def state(self) -> dict[str, Any]:
        """The position, and which groups wait."""
        return {**super().state(), "waiting": [list(key) for key in self._waiting]}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes on from a position."""
        super().restore(state)
        self._waiting = [(int(epoch), int(number)) for epoch, number in state["waiting"]]


def _encoded(model: Model, data: VectorData) -> Sequences:
    """All texts, one sequence each."""
    if model.truncation == "window":
        raise BothwaysError(
            "vectors are learned from whole texts, not from windows of them: choose another --truncation (in Python "
            "truncation=...)"
        )
    kept, cut = Sequences(), Truncation()
    parts = model.tokenizer.encode_slices(data.texts, None, max_length=model.max_length, truncation=model.truncation)
    try:
        for part in parts:
            kept.append(part.token_ids, part.segment_ids, part.starts, part.texts + cut.all_texts)
            cut += part.truncation
    except TooLongError as error:
        raise too_long(data, error.place, error) from None
    warn_of_cut(cut, model.truncation, model.max_length)
    return kept


def too_long(data: VectorData, place: int, error: TooLongError) -> BothwaysError:
    """That a text is too long, with where its row stands; windows are no way out, for none are learned from.

    Args:
        data: N groups.
        place: Of the text, among all texts.
        error: What was said of it.
    """
    group = int(np.searchsorted(data.starts, place, side="right")) - 1
    return BothwaysError(error.told(data.place(group), windows=False))
