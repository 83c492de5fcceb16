"""Questions of many callers at once, answered together: a queue that makes batches of them.

A thread takes what waits: the oldest request, and with it those that ask the same, up to a batch of tokens a core; it
waits a few milliseconds for them while there are fewer, unless the last one had no company either. So the more callers
there are, the larger the batches, and a caller alone waits for nobody.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from bothways.run.errand import on_errand

if TYPE_CHECKING:
    from bothways.run.runner import Runner

WAIT = 0.003
"""Seconds that the oldest request waits for others, at most."""
BATCHES = 16
"""Batches that may wait in the queue; callers with more wait before it."""
_IDLE = 5.0  # seconds after which a thread without work ends; the next request starts another
_LETTERS = 4  # of a token, about
_BUDGET = 4096  # tokens of a batch, until the engine says how many


@dataclass(eq=False)
class Request:
    """What a caller asks.

    Attributes:
        method: Of the model.
        columns: Its arguments, each a list with an entry a text, or None for an argument that is not given.
        options: Its other arguments.
        tokens: About how many.
        loop: The caller's.
        future: What the caller waits for.
        since: When it came.
        key: The same for requests that can be answered together.
    """

    method: str
    columns: tuple[list[Any] | None, ...]
    options: dict[str, Any]
    tokens: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    since: float = field(default_factory=time.monotonic)
    key: str = ""

    def __post_init__(self) -> None:
        self.key = repr((self.method, [column is None for column in self.columns], sorted(self.options.items())))
        if len({len(column) for column in self.columns if column is not None}) > 1:
            self.key += f" alone {id(self)}"  # so that it is told so, and does not shift what others ask

    def settle(self, result: Any, error: BaseException | None = None) -> None:
        """Gives the caller its answer, or what went wrong; a caller that has left gets nothing."""

        def give() -> None:
            if self.future.done():
                return
            if error is None:
                self.future.set_result(result)
            else:
                self.future.set_exception(error)

        with suppress(RuntimeError):  # its loop is closed
            self.loop.call_soon_threadsafe(give)


class RequestQueue:
    """Requests to one model, from any threads and event loops.

    Args:
        model: What answers.
    """

    def __init__(self, model: Runner) -> None:
        self._model = model
        self._changed = threading.Condition()
        self._inside: deque[Request] = deque()
        self._outside: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._budget = _BUDGET
        self._company = True
        self._batch: list[Request] = []  # what is computed now
        self._stop = threading.Event()  # of that

    async def ask(self, method: str, *columns: list[Any] | None, **options: Any) -> Any:
        """Asks the model, together with others.

        Args:
            method: Of the model, which takes lists of equal length and gives an answer an entry.
            columns: The lists.
            options: Its other arguments.

        Raises:
            Exception: What the model says against these texts; what others ask does not matter.
        """
        loop = asyncio.get_running_loop()
        tokens = sum(_tokens(entry) for column in columns if column is not None for entry in column)
        request = Request(method, columns, options, tokens, loop, loop.create_future())
        with self._changed:
            self._outside.append(request)
            self._let_in()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._serve, name="requests", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            return await request.future
        except asyncio.CancelledError:
            self._leave(request)
            raise

    def _leave(self, request: Request) -> None:
        """Takes a request out of the queue; where its turn has come, its batch ends once all of it have left."""
        with self._changed:
            for waiting in (self._inside, self._outside):
                with suppress(ValueError):
                    waiting.remove(request)
            if request in self._batch and all(one.future.cancelled() for one in self._batch):
                self._stop.set()

    def _let_in(self) -> None:
        """Takes in what waits before the queue as far as there is room, and a large request when there is nothing."""
        room = BATCHES * self._budget - sum(request.tokens for request in self._inside)
        while self._outside and (self._outside[0].tokens <= room or not self._inside):
            room -= self._outside[0].tokens
            self._inside.append(self._outside.popleft())

    def _serve(self) -> None:
        try:
            engine = self._model.engine  # the first time it is made; no caller waits for that
            self._budget = engine.batch_tokens * getattr(engine, "threads", 1)  # a batch a core
        except BaseException as error:
            self._refuse(error)
            return
        while True:
            with self._changed:
                self._let_in()
                while not self._inside:
                    # one that came just when the waiting had ended is inside already, and counts on this thread
                    if not self._changed.wait(_IDLE) and not self._inside and not self._outside:
                        self._thread = None
                        return
                    self._let_in()
                some = self._gathered()
            if some:
                self._answer(some)

    def _refuse(self, error: BaseException) -> None:
        """Tells all that wait what went wrong; the next request tries anew."""
        with self._changed:
            waiting = [*self._inside, *self._outside]
            self._inside.clear()
            self._outside.clear()
            self._thread = None
        for request in waiting:
            request.settle(None, error)

    def _gathered(self) -> list[Request]:
        """The next requests to answer together; called and left with the lock held."""
        budget = self._budget
        while self._inside:
            first = self._inside[0]
            some, tokens = [first], first.tokens
            for request in list(self._inside)[1:]:
                if request.key == first.key and tokens + request.tokens <= budget:
                    some.append(request)
                    tokens += request.tokens
            left = first.since + WAIT - time.monotonic()
            if self._company and tokens < budget and left > 0:
                self._changed.wait(left)
                continue
            for request in some:
                self._inside.remove(request)
            self._let_in()
            self._company = len(some) > 1
            return some
        return []

    def _answer(self, some: list[Request]) -> None:
        with self._changed:
            some = self._batch = [request for request in some if not request.future.cancelled()]
            stop = self._stop = threading.Event()
        if not some:
            return
        try:
            found = self._found(some, stop)
        except BaseException as error:
            if len(some) == 1:
                some[0].settle(None, error)
            else:  # each by itself, so that nobody suffers from another's texts
                for request in some:
                    self._answer([request])
            return
        finally:
            self._batch = []
        for request, answers in zip(some, found, strict=True):
            request.settle(answers)

    def _found(self, some: list[Request], stop: threading.Event) -> list[Any]:
        """What the model answers to each request.

        Raises:
            StoppedError: All of them have left meanwhile.
        """
        first = some[0]
        columns = [
            None if column is None else [entry for request in some for entry in request.columns[place] or []]
            for place, column in enumerate(first.columns)
        ]
        method: Callable[..., Any] = getattr(self._model, first.method)
        with on_errand(stop):  # what is cut is counted, not warned of again and again
            answers = method(*columns, **first.options)
        ends = accumulate((len(request.columns[0] or []) for request in some), initial=0)
        return [answers[begin:end] for begin, end in pairwise(ends)]


def _tokens(entry: Any) -> int:
    """About how many tokens a text, or a list of texts, has."""
    if isinstance(entry, str):
        return len(entry) // _LETTERS + 2
    return sum(map(_tokens, entry)) if isinstance(entry, list | tuple) else 1
