"""Where requests are taken in: as many as can be answered in time, each within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.truncation import Truncation
from bothways.use.serve.calls import CALLS, Call
from bothways.use.serve.offered import Offer, Offered

_AT_ONCE = 4096  # letters that are counted without a thread of their own


@dataclass(frozen=True)
class Limits:
    """How much a server takes on.

    Attributes:
        texts: Of a request, or pairs of texts.
        bytes: Of a request.
        waiting: Tokens of all requests together that wait for their answers; one request may be larger.
        seconds: That a request may take.

    Raises:
        BothwaysError: Some limit lets nothing through.
    """

    texts: int = 1024
    bytes: int = 8_000_000
    waiting: int = 262_144
    seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("texts", "bytes", "waiting", "seconds"):
            if getattr(self, name) <= 0:
                raise BothwaysError(f"the limit of {name} must be above 0, not {getattr(self, name)}")


class BusyError(Exception):
    """Too much waits already."""


class TooMuchError(Exception):
    """A request asks for more than the limits let through."""


class Answered(NamedTuple):
    """What came of a request.

    Attributes:
        offered: Who answered.
        results: An entry a text; of vectors an array ``(texts, E)``.
        read: What was read, and what of it was cut.
    """

    offered: Offered
    results: Any
    read: Truncation


class Desk:
    """Takes requests in.

    Args:
        offer: Whom requests go to.
        limits: What is taken on.
        told: Told of every answer.

    Attributes:
        waiting: Tokens that wait for their answers.
    """

    def __init__(self, offer: Offer, limits: Limits, told: Callable[[Answered], None]) -> None:
        self.offer, self.limits, self._told = offer, limits, told
        self.waiting = 0

    async def answer(self, question: str, wish: Any, name: str | None) -> Answered:
        """Asks a model.

        Args:
            question: Of `bothways.use.serve.offered.QUESTIONS`.
            wish: The request, in the form of that question.
            name: Of the model that is wanted.

        Raises:
            BothwaysError: No model answers that, or it has something against what is asked.
            TooMuchError: There are more texts than a request may have.
            BusyError: So much waits that this would wait too long.
            TimeoutError: It took too long.
        """
        offered = self.offer.find(question, name)
        call = CALLS[question][0](wish)
        if call.texts * call.times > self.limits.texts:
            raise TooMuchError(
                f"{call.texts * call.times:,} texts are more than the {self.limits.texts:,} of a request"
            )
        short = sum(map(len, call.read[0])) + sum(map(len, call.read[1] or [])) <= _AT_ONCE
        read = call.counted(offered) if short else await asyncio.to_thread(call.counted, offered)
        with self._room(read.all_tokens * call.times):
            async with asyncio.timeout(self.limits.seconds):
                answered = Answered(offered, await _asked(offered, call), read)
        self._told(answered)
        return answered

    @contextmanager
    def _room(self, tokens: int) -> Iterator[None]:
        if self.waiting and self.waiting + tokens > self.limits.waiting:
            raise BusyError(f"{self.waiting:,} tokens wait already; try again in a moment")
        self.waiting += tokens
        try:
            yield
        finally:
            self.waiting -= tokens


async def _asked(offered: Offered, call: Call) -> Any:
    """What the model answers, portion by portion."""
    ask = getattr(offered.model, call.method)
    found = [await ask(*columns, **call.options) for columns in call.portions()]
    if found and all(isinstance(some, np.ndarray) for some in found):
        return np.concatenate(found)
    return [one for some in found for one in some]
