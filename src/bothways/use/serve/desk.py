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
from bothways.use.serve.calls import CALLS, LETTERS, Call
from bothways.use.serve.offered import Offer, Offered

_AT_ONCE = 4096  # letters that are counted without a thread of their own


@dataclass(frozen=True)
class Limits:
    """How much a server takes on.

    Attributes:
        texts: Of a request, or pairs of texts: each question with its context, each text with each class.
        bytes: Of a request. As many letters may be read for it: a prompt counts with every text, a template and a text
            with every class, a context with every question, a query with every text. As many may be in a reply that
            lists several of something, as for masked places.
        waiting: Tokens of all requests together that are counted or wait for their answers; one request may be larger.
        seconds: That a request may take: to be counted, to wait for its turn, to be computed. After them no batch is
            begun for it alone.

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
            TooMuchError: There are more texts than a request may have, or too much is made of them.
            BusyError: So much waits that this would wait too long.
            TimeoutError: It took too long.
        """
        offered = self.offer.find(question, name)
        call = CALLS[question][0](wish, offered.model)
        letters = self._letters(call)
        async with asyncio.timeout(self.limits.seconds):
            with self._room(letters // LETTERS):  # about, until they are counted
                read = await _counted(offered, call, letters)
            with self._room(read.all_tokens):
                answered = Answered(offered, await _asked(offered, call), read)
        self._told(answered)
        return answered

    def _letters(self, call: Call) -> int:
        """How many letters are read, which is known before they are there.

        Raises:
            TooMuchError: There are more, or more texts, than a request may have, or the reply would be too large.
        """
        texts, letters, most = call.read.texts, sum(call.read.letters), self.limits.bytes
        if texts > self.limits.texts:
            raise TooMuchError(f"{texts:,} texts are more than the {self.limits.texts:,} of a request")
        if letters > most:
            raise TooMuchError(
                f"{letters:,} letters would be read, more than the {most:,} of a request: what is put before texts, or "
                "read with each of them, counts each time; send less at once"
            )
        if call.reply > most:
            raise TooMuchError(
                f"the reply might have {call.reply:,} letters, more than the {most:,} of a request: send less at once, "
                "or ask for a smaller 'top'"
            )
        return letters

    @contextmanager
    def _room(self, tokens: int) -> Iterator[None]:
        if self.waiting and self.waiting + tokens > self.limits.waiting:
            raise BusyError(
                f"{self.waiting:,} tokens wait already, and with the {tokens:,} of this request there would be more "
                f"than the {self.limits.waiting:,} that may; try again in a moment"
            )
        self.waiting += tokens
        try:
            yield
        finally:
            self.waiting -= tokens


async def _counted(offered: Offered, call: Call, letters: int) -> Truncation:
    """How many tokens are read, and what of them is cut."""
    if letters <= _AT_ONCE:
        return call.counted(offered.model)
    return await asyncio.to_thread(call.counted, offered.model)


async def _asked(offered: Offered, call: Call) -> Any:
    """What the model answers, portion by portion."""
    ask = getattr(offered.model, call.method)
    found = [await ask(*columns, **call.options) for columns in call.portions()]
    if found and all(isinstance(some, np.ndarray) for some in found):
        return np.concatenate(found)
    return [one for some in found for one in some]
