"""The training loop, the only one. It knows nothing of text, families or tasks.

Where items come from, what is learned and what is measured are arguments. Everything else is here, in the order in
which it happens: set the rate, add up the gradients of the step's items, check them, clip, step, log, evaluate, save,
stop.

Why a run can be continued to the bit: the rate is a pure function of the step, dropout draws from generators that are
seeded from (seed, step) before each step, the stream's position is data, and the rest is in the checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError, closest
from bothways.learn.ahead import Ahead, prepares_ahead
from bothways.learn.average import Average
from bothways.learn.interrupt import Interruption
from bothways.learn.keeper import Keeper
from bothways.learn.live import Live
from bothways.learn.optimizer import clip_gradient, make_optimizer, rate, set_rate
from bothways.learn.pace import decide_pace
from bothways.learn.parallel import Alone, Passes
from bothways.learn.processes import here, refuse_several
from bothways.learn.protocol import Callback, Evaluation, Item, Objective, Observer, StepEvent, Stream
from bothways.learn.sentinel import all_finite, not_finite
from bothways.learn.settings import LoopSettings
from bothways.learn.state import History, LoopState, Taken
from bothways.learn.tally import Tally, count_items
from bothways.learn.used_rows import UsedRows
from bothways.progress import progress
from bothways.run.memory import give_back, kept_memory
from bothways.run.precision import Precision, resolve_precision
from bothways.run.roof import roof as measured_roof

__all__ = ["Callback", "Evaluation", "History", "Item", "LoopSettings", "Objective", "StepEvent", "Stream", "train"]

T = TypeVar("T")

_TIDY_EVERY = 64
"""Steps between those after which free memory is given back: batches of other sizes leave holes in it."""


def train(
    model: nn.Module,
    objective: Objective,
    stream: Stream,
    settings: LoopSettings,
    *,
    out: Path | None = None,
    evaluate: Evaluation | None = None,
    observer: Observer | None = None,
    callbacks: Sequence[Callback] = (),
    before_step: Callable[[float], None] | None = None,
    title: str = "Training",
    identity: dict[str, Any] | None = None,
    resume: bool = True,
    force: bool = False,
    passes: Passes | None = None,
) -> History:
    """Trains a model where it lies (its device), in place.

    Args:
        model: What is trained; parameters in float32.
        objective: What is learned.
        stream: Where the items come from.
        settings: How.
        out: The run's folder: ``checkpoint``, ``best``, ``log.jsonl``. None keeps nothing on the disk.
        evaluate: What is measured meanwhile and at the end.
        observer: Adds lines of its own to the log.
        callbacks: Called after each step.
        before_step: Called before each step with the share of the run's steps taken; what it changes in the model must
            follow from that alone, so that a continued run is the same run.
        title: What the progress bar says.
        identity: What else makes this run this run (data, model), as JSON can hold it: a checkpoint is continued only
            where settings and identity are the same.
        resume: Whether a checkpoint in `out` is continued. A finished one yields its weights and history at once.
        force: Whether it is continued although settings differ, as far as that does no harm.
        passes: How the model is run, where several processes train it; `model` is then what it trains.

    Returns:
        What happened. The model holds its best weights if the settings name a metric, else its last; with a moving
        average, those of the average.

    Raises:
        BothwaysError: Settings that do not fit, another run in `out`, a full disk, a loss that is not finite.
        KeyboardInterrupt: After Ctrl-C, once the step is done and the run saved in `out`; called again, it goes on.
        SystemExit: After SIGTERM, likewise; its code is 0, for all is well, or 143 without `out`.
    """
    _check_metric(settings, evaluate)
    if passes is None:
        refuse_several(title)
        passes = Alone(model)
    device = next(model.parameters()).device
    precision, ahead = resolve_precision(settings.precision, device), prepares_ahead(device)
    optimizer = make_optimizer(model, settings)
    average = None if settings.average is None else Average(model, settings.average)
    identity = {**settings.identity(), "precision": precision.name, **(identity or {})}
    with (
        kept_memory(device.type == "cpu"),
        UsedRows(model, on=here().alone and device.type == "cpu") as tables,
        Interruption() as interruption,
        Ahead(stream) as data,
        Keeper(out, model, optimizer, data, settings, identity, resume, average, force) as keeper,
    ):
        state = keeper.state
        if state.stopped:
            return keeper.history()
        count_work = getattr(objective, "work", None)
        roof = measured_roof(precision, device) if count_work else None
        live = Live(roof)
        began = time.monotonic() - state.seconds

        run = _Run(model, objective, settings, passes, precision, tables, average, evaluate, observer, keeper)
        model.train()
        if not state.steps:
            state.steps, state.interval = decide_pace(model, data, settings, run.accumulate, run.measure)
        if observer and keeper.begins:
            keeper.note(observer.opening(state.steps))
        warmup = settings.warmup_of(state.steps)
        with progress(title, total=state.steps - state.step, unit="steps") as bar:
            while state.stopped is None and not interruption.signal:
                step_began = time.monotonic()
                items = data.next_step(state.progress, state.next_progress if ahead else None)
                waiting = time.monotonic() - step_began
                if items is None:
                    state.stopped = "no more data"
                    break
                share = state.rate_share * rate(state.step, state.steps, warmup, settings.schedule)
                learning_rate = settings.learning_rate * share
                set_rate(optimizer, learning_rate)
                if before_step:
                    before_step(state.progress)
                tally = run.accumulate(items)
                logs, evaluates = state.due(settings.log_every), state.due(state.interval)
                noted = observer.gradients(state.step + 1, model) if observer and (logs or evaluates) else {}
                norm = clip_gradient(model, settings.clip)
                if not all_finite(tally, norm):
                    _recover(keeper, model, tally, norm, partial(run.accumulate, items), learning_rate)
                    state = keeper.state
                    continue
                optimizer.step()
                optimizer.zero_grad()
                if average:
                    average.update(state.step + 1)
                work = sum(count_work(model, item) for item in items) if count_work else 0.0
                tokens = sum(here().gathered(sum(batch.tokens for batch, _ in items)))
                taken = Taken(tally, tokens, time.monotonic() - step_began, waiting, work)
                state.took_step(taken)
                state.seconds = time.monotonic() - began

                if logs:
                    keeper.log_step(learning_rate, norm, roof, noted)
                measured = run.evaluated() if evaluates else {}
                values = {**tally.means(), "rate": learning_rate, "gradient_norm": norm}
                event = StepEvent(state.step, state.steps, values, measured, model, taken)
                for callback in callbacks:
                    callback(event)
                bar.advance(1, note=live.after(taken))
                ends = _end(state, settings, event)
                interruption.signal, state.stopped, due = here().agreed(interruption.signal, ends, keeper.due())
                if due:
                    keeper.save()
                if state.step % _TIDY_EVERY == 0:
                    give_back()

        if evaluate and state.stopped and state.evaluated < state.step:  # the run ended before its last step
            run.evaluated()
            state.seconds = time.monotonic() - began
        keeper.save()
        if interruption.signal:
            interruption.leave(keeper.told(), saved=out is not None)
        keeper.tell_end()
        return keeper.history()


@dataclass(frozen=True)
class _Run:
    """What a run does with the items of a step, and how it measures itself; the arguments are those of `train`."""

    model: nn.Module
    objective: Objective
    settings: LoopSettings
    passes: Passes
    precision: Precision
    tables: UsedRows
    average: Average | None
    evaluate: Evaluation | None
    observer: Observer | None
    keeper: Keeper

    def accumulate(self, items: list[Item]) -> Tally:
        """Adds up the gradient of the next step, whose dropout follows from its number."""
        seed = derived_seed("step", self.settings.seed, self.keeper.state.step, *([here().rank] if here().rank else []))
        tally = _accumulate(self.passes, self.objective, items, seed, self.precision)
        self.tables.gather()
        return tally

    def measure(self) -> dict[str, float]:
        """What the evaluation yields; nothing without one."""
        return _measured(self.model, self.evaluate.run, self.precision) if self.evaluate else {}

    def evaluated(self) -> dict[str, float]:
        """Measures what is kept in the end, logs it, and lets the observer add its lines."""
        with self.average.in_place() if self.average else nullcontext(), self.passes.whole():
            if measured := self.measure():
                self.keeper.log_evaluation(measured)
                if self.observer:
                    told = partial(self.observer.evaluated, self.keeper.state.step)
                    self.keeper.note(_measured(self.model, told, self.precision))
        return measured


def _recover(
    keeper: Keeper,
    model: nn.Module,
    tally: Tally,
    norm: float,
    again: Callable[[], object],
    learning_rate: float,
) -> None:
    """Goes back to the last good state after numbers that are not finite, once in a run.

    Raises:
        BothwaysError: It is the second time; the sentence says what was not finite first, and what to do.
    """
    error = not_finite(model, tally, norm, keeper.state.step + 1, again, keeper.advice(learning_rate))
    model.zero_grad()
    if not keeper.go_back(str(error).partition("; lower the")[0]):
        keeper.note({"failure": {"why": str(error)}})
        raise error


def _accumulate(passes: Passes, objective: Objective, items: list[Item], seed: int, precision: Precision) -> Tally:
    """Adds up the gradient of a step's items, exact however unequal they are; returns the step's sums and counts."""
    counts = count_items(objective, items)
    totals = {kind: max(1, count) for kind, count in counts.items()}
    tally = Tally(counts=counts, weights=dict(getattr(objective, "weights", {})))
    torch.manual_seed(seed)
    with precision.autocast():
        tally.add(here().summed(passes.backward(objective, items, totals)), {})
    return tally


def _measured(model: nn.Module, run: Callable[[], dict[str, T]], precision: Precision) -> dict[str, T]:
    model.eval()
    with torch.no_grad(), precision.autocast():
        measured = run()
    model.train()
    return measured


def _end(state: LoopState, settings: LoopSettings, event: StepEvent) -> str | None:
    """Why the run ends after this step; None if it does not."""
    if state.step >= state.steps:
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
