"""How many steps fit into a time budget: a few are tried out, timed, and undone.

Were the steps decided in the middle of a run, its first steps would have had another learning rate than in a repetition
by number. So the trial stands before the run and leaves no trace: weights are put back, the optimizer is a separate
one, the stream goes back to its position, and random generators are seeded anew before each step anyway.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors, put_tensors
from bothways.learn.optimizer import make_optimizer
from bothways.learn.protocol import Item, Stream
from bothways.learn.settings import LoopSettings

SHARE = 0.03
"""Of the budget, spent on the trial (at least `FEWEST` steps, at most `MOST`)."""
FEWEST, MOST = 3, 30


def decide_steps(
    model: nn.Module,
    stream: Stream,
    settings: LoopSettings,
    accumulate: Callable[[list[Item]], object],
    measure: Callable[[], object],
) -> int:
    """The steps of a run.

    Args:
        model: The model; it comes back as it was.
        stream: The data; it comes back as it was.
        settings: `steps`, `minutes` or both; with both, whichever ends first.
        accumulate: Adds a step's gradient to the parameters.
        measure: Runs an evaluation, to know what part of the time evaluations will take.

    Returns:
        `steps`, or as many as fit into `minutes`, at least 1.
    """
    if settings.minutes is None:
        assert settings.steps is not None  # the settings have checked it
        return settings.steps
    began = time.monotonic()
    budget = settings.minutes * 60
    position, weights = stream.state(), {name: tensor.clone() for name, tensor in own_tensors(model).items()}
    seconds = _seconds_a_step(model, stream, settings, accumulate, began + SHARE * budget)
    before = time.monotonic()
    measure()
    evaluation = time.monotonic() - before
    put_tensors(model, weights)
    stream.restore(position)
    left = budget - (time.monotonic() - began)
    return _steps_within(left, seconds, evaluation, settings)


def _seconds_a_step(
    model: nn.Module, stream: Stream, settings: LoopSettings, accumulate: Callable[[list[Item]], object], until: float
) -> float:
    optimizer = make_optimizer(model, settings)
    times: list[float] = []
    while len(times) < FEWEST or (len(times) < MOST and time.monotonic() < until):
        began = time.monotonic()
        items = stream.next_step()
        if items is None:
            break
        accumulate(items)
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.monotonic() - began)
    if not times:
        raise BothwaysError("there is nothing to train on: the data hold no example")
    steady = times[1:] or times  # the first step also sets up kernels and memory
    return sum(steady) / len(steady)


def _steps_within(seconds: float, step: float, evaluation: float, settings: LoopSettings) -> int:
    """The most steps that fit, with their evaluations, into so many seconds."""
    every = settings.evaluate_every
    if every is not None and every >= 1:
        steps = int(seconds / (step + evaluation / every))
    else:  # once at the end, or a known number of times
        steps = int((seconds - evaluation / (every or 1)) / step)
    return max(1, steps if settings.steps is None else min(steps, settings.steps))
