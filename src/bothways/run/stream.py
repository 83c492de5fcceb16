"""Texts without number, a window at a time: while one is computed the next is tokenized, and the order stays.

Two threads answer windows in turn. The model lets one at a time compute (`Runner.run`), so the other one meanwhile
turns its texts into tokens, which does not hold up Python. What waits in memory are the windows that are under way,
however many texts there are.
"""

from __future__ import annotations

import atexit
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import zip_longest
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from bothways.errors import BothwaysError, BothwaysWarning
from bothways.run.answers import as_list, check_text
from bothways.run.errand import on_errand
from bothways.run.memory import one_heap
from bothways.text.truncation import TooLongError, Truncation

if TYPE_CHECKING:
    from bothways.run.runner import Runner

WINDOW = 4096
"""Texts of a window: enough to sort them well by length."""
FIRST = 256
"""Texts of the first windows of what is kept window by window, so that little is lost at its beginning."""
LETTERS = 1 << 20
"""Characters of a window, so that long texts need no more memory than short ones."""

_ENDED = object()  # in place of a text that is not there

Part = TypeVar("Part")


class Done(NamedTuple):
    """A window that was answered.

    Attributes:
        answers: What was made of it.
        truncation: What was cut.
        tokens: Tokens that were computed.
    """

    answers: Any
    truncation: Truncation
    tokens: int


class Window(NamedTuple):
    """Some rows.

    Attributes:
        begin: The number of the first, from 0.
        columns: For each thing that is read of a row a list of them.
    """

    begin: int
    columns: tuple[list[Any], ...]


class Workers(Protocol):
    """What answers windows, several at a time.

    Attributes:
        ahead: How many windows it wants to have at hand.
    """

    ahead: int

    def submit(self, *columns: Any) -> Future[Done]:
        """Takes a window: for each thing that is read of a row a list of them."""
        ...


class Threads:
    """Answers windows in this process; closed, it stops between two batches.

    A process that ends closes it too, rather than wait for what nobody will read: so its threads are not those of an
    executor, which Python lets work to the end first.

    Args:
        answer: What is made of a window.
    """

    ahead = 3

    def __init__(self, answer: Callable[..., Any]) -> None:
        one_heap()
        self._answer, self._stop, self._closed = answer, threading.Event(), False
        self._given: SimpleQueue[tuple[Future[Done], tuple[Any, ...]] | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"window {n}", daemon=True) for n in range(2)]

    def __enter__(self) -> Threads:
        atexit.register(self._close)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._closed:  # as when what reads the answers is left for Python to clear away, after all modules
            return
        self._closed = True
        atexit.unregister(self._close)
        self._stop.set()
        for _ in self._threads:
            self._given.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, *columns: Any) -> Future[Done]:
        """As `Workers.submit` says."""
        future: Future[Done] = Future()
        self._given.put((future, columns))
        return future

    def _work(self) -> None:
        while self._answered():
            pass

    def _answered(self) -> bool:
        """Answers the next window; False where there are no more. Nothing of it is held while the next is awaited."""
        given = self._given.get()
        if given is None or self._stop.is_set():
            return False
        future, columns = given
        try:
            future.set_result(done(self._answer, columns, self._stop))
        except BaseException as error:
            future.set_exception(error)
        return True


def done(answer: Callable[..., Any], columns: tuple[Any, ...], stop: threading.Event | None = None) -> Done:
    """Answers a window here and now."""
    with on_errand(stop) as errand:
        answers = answer(*columns)
    return Done(answers, errand.truncation, errand.tokens)


def in_order(
    parts: Iterable[Part], workers: Workers, columns: Callable[[Part], tuple[Any, ...]]
) -> Iterator[tuple[Part, Done]]:
    """Windows with their answers, in their order, as many under way as the workers want.

    Args:
        parts: The windows; read as they are needed.
        workers: What answers them.
        columns: What the workers need of a window.

    Raises:
        BaseException: Whatever reading or answering raised, once all windows before were yielded.
    """
    waiting: deque[tuple[Part, Future[Done]]] = deque()
    source, wrong = iter(parts), None
    more = True
    while more or waiting:
        while more and len(waiting) < workers.ahead:
            try:
                part = next(source)
            except StopIteration:
                more = False
            except Exception as error:  # what was read before it is answered first
                more, wrong = False, error
            else:
                waiting.append((part, workers.submit(*columns(part))))
        if waiting:
            part, future = waiting.popleft()
            yield part, future.result()
    if wrong is not None:
        raise wrong


def answers(
    model: Runner, ask: Callable[..., Iterable[Any]], *columns: Any, check: Callable[[Any, int], None] = check_text
) -> Iterator[Any]:
    """An answer to each row of texts without number, in their order.

    Args:
        model: Who is asked.
        ask: The answers to some rows: given the number of the first, and for each column a list.
        columns: What is read of a row: an iterator, or a list, for each of its texts; None is left out.
        check: Refuses what is no text, given it and the number of its row.
    """

    def answer(begin: int, *some: list[Any]) -> Iterable[Any]:
        try:
            return ask(begin, *some)
        except TooLongError as error:
            raise error.behind(begin) from None

    given = [column if isinstance(column, Iterator) else as_list(column) for column in columns if column is not None]
    return _answers(model, _windows(given, check), answer)


def _answers(model: Runner, windows: Iterator[Window], answer: Callable[..., Iterable[Any]]) -> Iterator[Any]:
    cut = Truncation()
    with Threads(answer) as threads:
        for _, found in in_order(windows, threads, lambda window: (window.begin, *window.columns)):
            cut += found.truncation
            yield from found.answers
    warn_of(cut, model)


def warn_of(cut: Truncation, model: Any) -> None:
    """Says once what was cut, where the policy is to say so."""
    if model.truncation == "warn" and cut.texts and model.max_length is not None:
        warnings.warn(cut.sentence(model.max_length), BothwaysWarning, stacklevel=3)


def _windows(given: Sequence[Iterable[Any]], check: Callable[[Any, int], None]) -> Iterator[Window]:
    rows: list[tuple[Any, ...]] = []
    begin = size = 0
    for place, row in enumerate(zip_longest(*given, fillvalue=_ENDED)):
        if any(one is _ENDED for one in row):
            raise BothwaysError(f"one of two columns of texts ends after {place:,}, and the other goes on")
        for one in row:
            check(one, place)
        rows.append(row)
        size += letters(row)
        if len(rows) == WINDOW or size >= LETTERS:
            yield Window(begin, tuple(map(list, zip(*rows, strict=True))))
            rows, begin, size = [], place + 1, 0
    if rows:
        yield Window(begin, tuple(map(list, zip(*rows, strict=True))))


def letters(value: Any) -> int:
    """The characters of a text, or of all texts of a row."""
    return len(value) if isinstance(value, str) else sum(map(letters, value))
