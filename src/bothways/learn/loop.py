"""The training loop, the only one. It knows nothing of text, families or tasks.

Where items come from, what is learned and what is measured are arguments. Everything else is here, in the order in
which it happens: set the rate, add up the gradients of the step's items, check them, clip, step, log, evaluate, save,
stop.

Why a run can be continued to the bit: the rate is a pure function of the step, dropout draws from generators that are
seeded from (seed, step) before each step, the stream's position is data, and the rest is in the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError, closest
from bothways.learn.interrupt import Interruption
from bothways.learn.keeper import Keeper
from bothways.learn.optimizer import make_optimizer, rate, set_rate
from bothways.learn.pace import decide_pace
from bothways.learn.protocol import Callback, Evaluation, Item, Objective, StepEvent, Stream
from bothways.learn.sentinel import all_finite, not_finite
from bothways.learn.settings import LoopSettings
from bothways.learn.state import History, LoopState
from bothways.learn.tally import Tally, count_items
from bothways.progress import progress
from bothways.run.precision import Precision, resolve_precision

__all__ = ["Callback", "Evaluation", "History", "Item", "LoopSettings", "Objective", "StepEvent", "Stream", "train"]


def train(
    model: nn.Module,
    objective: Objective,
    stream: Stream,
    settings: LoopSettings,
    *,
    out: Path | None = None,
    evaluate: Evaluation | None = None,
    callbacks: Sequence[Callback] = (),
    title: str = "Training",
    identity: dict[str, Any] | None = None,
    resume: bool = True,
) -> History:
    """Trains a model where it lies (its device), in place.

    Args:
        model: What is trained; parameters in float32.
        objective: What is learned.
        stream: Where the items come from.
        settings: How.
        out: The run's folder: ``checkpoint``, ``best``, ``log.jsonl``. None keeps nothing on the disk.
        evaluate: What is measured meanwhile and at the end.
        callbacks: Called after each step.
        title: What the progress bar says.
        identity: What else makes this run this run (data, model), as JSON can hold it: a checkpoint is continued only
            where settings and identity are the same.
        resume: Whether a checkpoint in `out` is continued. A finished one yields its weights and history at once.

    Returns:
        What happened. The model holds its best weights if the settings name a metric, else its last.

    Raises:
        BothwaysError: Settings that do not fit, another run in `out`, a full disk, a loss that is not finite.
        KeyboardInterrupt: After Ctrl-C, once the step is done and the run saved in `out`; called again, it goes on.
        SystemExit: After SIGTERM, likewise.
    """
    _check_metric(settings, evaluate)
    precision = resolve_precision(settings.precision, next(model.parameters()).device)
    optimizer = make_optimizer(model, settings)
    identity = {**settings.identity(), "precision": precision.name, **(identity or {})}
    with Interruption() as interruption, Keeper(out, model, optimizer, stream, settings, identity, resume) as keeper:
        state = keeper.state
        if state.stopped:
            return keeper.history()
        began = time.monotonic() - state.seconds

        def accumulate(items: list[Item]) -> Tally:
            return _accumulate(model, objective, items, derived_seed("step", settings.seed, state.step), precision)

        def measure() -> dict[str, float]:
            return _measure(model, evaluate, precision) if evaluate else {}

        model.train()
        if not state.steps:
            state.steps, state.interval = decide_pace(model, stream, settings, accumulate, measure)
        warmup = settings.warmup_of(state.steps)
        with progress(title, total=state.steps - state.step, unit="steps") as bar:
            while state.stopped is None and not interruption.signal:
                step_began = time.monotonic()
                items = stream.next_step(state.step / state.steps)
                if items is None:
                    state.stopped = "no more data"
                    break
                learning_rate = settings.learning_rate * rate(state.step, state.steps, warmup)
                set_rate(optimizer, learning_rate)
                tally = accumulate(items)
                norm = float(nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
                if not all_finite(tally, norm):
                    again = partial(accumulate, items)
                    raise not_finite(model, tally, norm, state.step + 1, again, keeper.advice(learning_rate))
                optimizer.step()
                optimizer.zero_grad()
                state.took_step(tally, sum(batch.tokens for batch, _ in items), time.monotonic() - step_began)
                state.seconds = time.monotonic() - began

                last = state.step == state.steps
                if last or state.step % settings.log_every == 0:
                    keeper.log_step(learning_rate, norm)
                measured = measure() if last or state.step % state.interval == 0 else {}
                if measured:
                    keeper.log_evaluation(measured)
                values = {**tally.means(), "rate": learning_rate, "gradient_norm": norm}
                event = StepEvent(state.step, state.steps, values, measured, model)
                for callback in callbacks:
                    callback(event)
                bar.advance(1, note=f"loss {values['loss']:.3f}, {state.speed:,.0f} tokens/s")
                state.stopped = _end(state, settings, event)
                keeper.save_if_due()

        if evaluate and state.stopped and state.evaluated < state.step:  # the run ended before its last step
            keeper.log_evaluation(measure())
            state.seconds = time.monotonic() - began
        keeper.save()
        if interruption.signal:
            interruption.leave(keeper.told())
        return keeper.history()


def _accumulate(model: nn.Module, objective: Objective, items: list[Item], seed: int, precision: Precision) -> Tally:
    """Adds up the gradient of a step's items, exact however unequal they are; returns the step's sums and counts."""
    counts = count_items(objective, items)
    totals = {kind: max(1, count) for kind, count in counts.items()}
    tally = Tally(counts=counts, weights=dict(getattr(objective, "weights", {})))
    torch.manual_seed(seed)
    with precision.autocast():
        for item in items:
            tally.add(objective.backward(model, item, totals), {})
    return tally


def _measure(model: nn.Module, evaluate: Evaluation, precision: Precision) -> dict[str, float]:
    model.eval()
    with torch.no_grad(), precision.autocast():
        measured = evaluate.run()
    model.train()
    return measured


def _end(state: LoopState, settings: LoopSettings, event: StepEvent) -> str | None:
    """Why the run ends after this step; None if it does not."""
    if state.step == state.steps:
        return "all steps taken"
    if settings.patience is not None and state.stale >= settings.patience:
        return "no better metric"
    return "callback" if event.stopped else None


def _check_metric(settings: LoopSettings, evaluate: Evaluation | None) -> None:
    if settings.metric is None:
        return
    if evaluate is None:
        raise BothwaysError(f"the metric {settings.metric!r} needs an evaluation: give data to evaluate on")
    if settings.metric not in evaluate.names:
        known = ", ".join(evaluate.names)
        near = closest(settings.metric, evaluate.names)
        raise BothwaysError(f"there is no metric {settings.metric!r}; measured are {known}{near}")
