"""Windows answered on a cluster of Ray's: the model goes out once, texts follow, answers come back.

Every window is written once, by the process that reads the rows. A worker that dies is replaced, and what it had is
answered again by the next; so a cluster makes the same file as one process does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import cycle
from typing import Any

from bothways.errors import BothwaysError, need
from bothways.run.stream import Done, Workers, done

_TRIES = 3
"""How often a window is given to another worker after one has died of it."""


class RayWorkers:
    """As `Workers`: actors of Ray's.

    Attributes:
        ahead: Two windows a worker, so that none waits for its next one.

    Args:
        ray: The module.
        actors: The workers.
        sent: A reference to what `_sent` sends.
    """

    def __init__(self, ray: Any, actors: list[Any], sent: Any) -> None:
        self._ray, self._sent = ray, sent
        self._next = cycle(actors)
        self.ahead = 2 * len(actors)

    def submit(self, *columns: Any) -> Future[Done]:
        """As `Workers.submit` says."""
        reference = next(self._next).answer.remote(columns, [self._sent])
        return _Found(self._ray, reference)


class _Found(Future[Done]):
    """An answer that is on its way; it is fetched only when it is wanted."""

    def __init__(self, ray: Any, reference: Any) -> None:
        super().__init__()
        self._ray, self._reference = ray, reference

    def result(self, timeout: float | None = None) -> Done:
        """The answer.

        Raises:
            BothwaysError: It was refused, or the workers died of it one after the other.
        """
        try:
            found: Done = self._ray.get(self._reference, timeout=timeout)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause if isinstance(error.cause, BothwaysError) else error from None
        except self._ray.exceptions.RayActorError:
            raise BothwaysError(
                f"workers have died {_TRIES + 1} times at the same texts, most likely for want of memory; take fewer "
                "workers on a machine (--workers)"
            ) from None
        return found


@contextmanager
def ray_workers(answer: Callable[..., Any], workers: int | None, model: Any = None) -> Iterator[Workers]:
    """Starts workers on the cluster that Ray finds, or on this machine if it finds none.

    A model that lies on a GPU runs on those of the cluster, or on its processors if it has none.

    Args:
        answer: What is made of a window; it is sent to the workers with the model that it holds.
        workers: How many; None for as many as the cluster has processors, or GPUs where they are used.
        model: What `answer` holds, if there is one.

    Raises:
        BothwaysError: Ray is not installed, or the cluster cannot be reached.
    """
    ray = need("ray", "ray", "A job on a cluster")
    if workers is not None and workers < 1:
        raise BothwaysError(f"a cluster needs at least one worker, not workers={workers}")
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="error")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise BothwaysError(f"the cluster cannot be reached ({str(error).splitlines()[0]})") from None
    actors: list[Any] = []
    try:
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0)) if _on_gpu(model) else 0
        count = workers or gpus or max(1, int(there.get("CPU", 1)))
        share = {"num_gpus": 1 / math.ceil(count / gpus)} if gpus else {}
        kind = ray.remote(max_restarts=-1, max_task_retries=_TRIES, **share)(_Actor)
        actors = [kind.remote() for _ in range(count)]
        yield RayWorkers(ray, actors, _sent(ray, answer, model, "cuda" if gpus else "cpu"))
    finally:
        for actor in actors:
            ray.kill(actor)
        if ours:
            ray.shutdown()


def _on_gpu(model: Any) -> bool:
    device = getattr(model, "device", None)
    return device is not None and device.type == "cuda"


def _sent(ray: Any, answer: Callable[..., Any], model: Any, device: str) -> Any:
    """A reference to what is made of a window, with the model and where it is to lie; it travels on the host."""
    if not _on_gpu(model):
        return ray.put((answer, None, device))
    here = model.device
    model.to("cpu")
    try:
        return ray.put((answer, model, device))
    finally:
        model.to(here)


class _Actor:
    """A worker, or one that replaces it."""

    def __init__(self) -> None:
        self._answer: Callable[..., Any] | None = None

    def answer(self, columns: tuple[Any, ...], sent: list[Any]) -> Done:
        """Answers a window.

        Args:
            columns: The window.
            sent: A list of one reference to what is made of it, so that Ray leaves it alone; fetched once.
        """
        if self._answer is None:
            import ray

            self._answer, model, device = ray.get(sent[0])
            if model is not None:
                model.to(device)
        return done(self._answer, columns)
