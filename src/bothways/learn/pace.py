"""How many steps fit into a time budget: a few are tried out, timed, and undone.

Were the steps decided in the middle of a run, its first steps would have had another learning rate than in a repetition
by number. So the trial stands before the run and leaves no trace: weights are put back, the optimizer is a separate
one, the stream goes back to its position, and random generators are seeded anew before each step anyway.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.checkpoint import own_tensors, put_tensors
from bothways.learn.optimizer import make_optimizer
from bothways.learn.processes import here
from bothways.learn.protocol import Item, Stream
from bothways.learn.settings import LoopSettings

SHARE = 0.03
"""Of the budget, spent on the trial (at least `FEWEST` steps, at most `MOST`)."""
FEWEST, MOST = 3, 30
MEASURING = 0.25
"""Of the time left after the trial, that evaluations may take; if they would take more, there are fewer of them."""


def decide_pace(
    model: nn.Module,
    stream: Stream,
    settings: LoopSettings,
    accumulate: Callable[[list[Item]], object],
    measure: Callable[[], object],
) -> tuple[int, int]:
    """The steps of a run, and the steps between its evaluations.

    Args:
        model: The model; it comes back as it was.
        stream: The data; it comes back as it was.
        settings: `steps`, `minutes` or both; with both, whichever ends first.
        accumulate: Adds a step's gradient to the parameters.
        measure: Runs an evaluation, to know what part of the time evaluations will take.

    Returns:
        Steps: as set, or as many as fit into `minutes`, at least 1. Interval: as set, or longer if evaluations would
        take too much of `minutes`.
    """
    if settings.minutes is None:
        assert settings.steps is not None  # the settings have checked it
        return settings.steps, settings.evaluation_interval(settings.steps)
    began = time.monotonic()
    budget = settings.minutes * 60
    position, weights = stream.state(), {name: tensor.clone() for name, tensor in own_tensors(model).items()}
    seconds = _seconds_a_step(model, stream, settings, accumulate, began + SHARE * budget)
    before = time.monotonic()
    measure()
    evaluation = time.monotonic() - before
    put_tensors(model, weights)
    stream.restore(position)
    fitting = fit(budget - (time.monotonic() - began), seconds, evaluation, settings)
    steps, interval = here().first_says(fitting)
    return steps, interval


def _seconds_a_step(
    model: nn.Module, stream: Stream, settings: LoopSettings, accumulate: Callable[[list[Item]], object], until: float
) -> float:
    optimizer = make_optimizer(model, settings)
    times: list[float] = []
    while here().first_says(len(times) < FEWEST or (len(times) < MOST and time.monotonic() < until)):
        began = time.monotonic()
        items = stream.next_step(0.0)
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


def fit(left: float, step: float, evaluation: float, settings: LoopSettings) -> tuple[int, int]:
    """The most steps that fit, with their evaluations, into so many seconds.

    Args:
        left: The seconds.
        step: Those that a step takes.
        evaluation: Those that an evaluation takes.
        settings: How often to evaluate, and how many steps to take at most.

    Returns:
        Steps, at least 1, and the steps between evaluations.
    """
    every = settings.evaluate_every
    if every is None:
        wanted = 1.0
    elif every < 1:
        wanted = 1 / every
    else:
        wanted = left / (step * every + evaluation)
    most = max(1, int(MEASURING * left / evaluation)) if evaluation > 0 else math.inf
    # Training gets half of the time even where a single evaluation takes more than the other half.
    steps = max(1, int(max(left - min(wanted, most) * evaluation, left / 2) / step))
    if settings.steps is not None:
        steps = min(steps, settings.steps)
    interval = settings.evaluation_interval(steps)
    return steps, interval if wanted <= most else max(interval, math.ceil(steps / most))
