"""Windows answered by several processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.stream import Done, Workers, done

_answer: Callable[..., Any] | None = None  # of a process, which has one


class Processes:
    """As `Workers`: processes of this machine.

    Attributes:
        ahead: Two windows a process, so that none waits for its next one.

    Args:
        pool: They.
        count: How many they are.
    """

    def __init__(self, pool: ProcessPoolExecutor, count: int) -> None:
        self._pool, self.ahead = pool, 2 * count

    def submit(self, *columns: Any) -> Future[Done]:
        """As `Workers.submit` says."""
        return self._pool.submit(_done, columns)


class Here:
    """As `Workers`: this process, a window at a time."""

    ahead = 1

    def __init__(self, answer: Callable[..., Any]) -> None:
        self._answer = answer

    def submit(self, *columns: Any) -> Future[Done]:
        """As `Workers.submit` says."""
        future: Future[Done] = Future()
        future.set_result(done(self._answer, columns))
        return future


@contextmanager
def processes(answer: Callable[..., Any], count: int) -> Iterator[Workers]:
    """Starts processes; they end with this one, however it ends.

    Args:
        answer: What is made of a window; every process gets a copy.
        count: How many; one is this process itself.

    Raises:
        BothwaysError: There are to be none, or one of them was killed.
    """
    if count < 1:
        raise BothwaysError(f"workers must be 1 or more, not {count}")
    if count == 1:
        yield Here(answer)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(answer,)) as pool:
        begun = pool._processes  # one that is begun while another is killed would be left behind, and waited for
        try:
            yield Processes(pool, count)
        except BrokenProcessPool:
            for process in list(begun.values()):
                process.kill()
            raise BothwaysError(
                "a process was killed, most likely for want of memory; say the same again, perhaps with fewer workers: "
                "it goes on where it stopped"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _begin(answer: Callable[..., Any]) -> None:
    global _answer
    _answer = answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads the rows ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _done(columns: tuple[Any, ...]) -> Done:
    assert _answer is not None
    return done(_answer, columns)
