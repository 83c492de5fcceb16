"""What a run leaves behind: its log, its checkpoints, its best weights; and picking it up again where it stopped."""

from __future__ import annotations

import json
import reprlib
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.average import Average
from bothways.learn.checkpoint import BestWeights, Checkpoint
from bothways.learn.journal import Journal
from bothways.learn.processes import here
from bothways.learn.protocol import Stream
from bothways.learn.settings import LoopSettings
from bothways.learn.state import History, LoopState
from bothways.progress import say

_SAVE_MINUTES = 5.0
LOWERED = 0.5
"""Of the learning rate, after numbers that were not finite."""
_HARMLESS = (
    *(
        "learning_rate",
        "steps",
        "minutes",
        "warmup",
        "warmup_steps",
        "schedule",
        "layer_decay",
        "head_rate",
        "weight_decay",
        "betas",
    ),
    *("eps", "clip", "precision", "log_every", "evaluate_every", "metric", "better", "patience", "batch_tokens"),
    "batch_size",
)
"""What may change in the middle of a run: weights, averages and the position in the data mean what they meant."""


class Keeper:
    """The keeper of one run. It continues the run that `out` holds, or begins a new one.

    Args:
        out: The run's folder; None keeps log and best weights in memory.
        model: What is trained; gets the checkpoint's weights.
        optimizer: Gets the checkpoint's averages.
        stream: Goes to the checkpoint's position.
        settings: Of the run.
        identity: All that makes this run this run.
        resume: Whether a checkpoint may be continued.
        average: Of the weights, if one is kept.
        force: Whether a checkpoint of other settings is continued too, as far as that does no harm.

    Attributes:
        state: The state of the run.
        changed: The settings that are others than when the run began, by name, in words.

    Raises:
        BothwaysError: `out` holds another run, cannot be read or written, or has no room for checkpoints.
    """

    def __init__(
        self,
        out: Path | None,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        stream: Stream,
        settings: LoopSettings,
        identity: dict[str, Any],
        resume: bool = True,
        average: Average | None = None,
        force: bool = False,
    ) -> None:
        self._model, self._optimizer, self._stream, self._settings = model, optimizer, stream, settings
        self._average = average
        self._identity = json.loads(json.dumps(identity))
        self._best = BestWeights(out)
        self._checkpoint = Checkpoint(out) if out is not None else None
        self.state = LoopState()
        self.changed: dict[str, str] = {}
        self._saved: dict[str, Any] | None = None
        log_end = 0
        if self._checkpoint is not None and self._checkpoint.exists():
            log_end = self._continue(self._checkpoint, resume, force)
        elif self._checkpoint is not None:
            self._checkpoint.check_space(model, best=settings.metric is not None, average=average)
        self._journal = Journal(out, end=log_end, tensorboard=settings.tensorboard, writes=here().first)
        self._saved_at = time.monotonic()
        if self.changed:
            self.note({"forced": {"changed": self.changed}})
            self._saved = None  # from here on this is the run, though it is killed before its next step
            self.save()

    def __enter__(self) -> Keeper:
        return self

    def __exit__(self, *exception: object) -> None:
        self._journal.close()

    def log_step(self, rate: float, gradient_norm: float, roof: float | None, noted: Mapping[str, float]) -> None:
        """Adds a line to the log: the means since the line before, and how fast it went under the machine's roof."""
        state = self.state
        values: dict[str, Any] = {**state.pending.means(), "rate": rate, "gradient_norm": gradient_norm, **noted}
        values |= {"tokens": state.tokens, **state.pace(roof), "seconds": state.seconds}
        if (epoch := getattr(self._stream, "epoch", None)) is not None:
            values["epoch"] = epoch
        self._journal.write("step", state.step, values)
        state.clear_pending()

    def log_evaluation(self, measured: dict[str, float]) -> None:
        """Adds a line to the log; keeps the weights if they are the best so far."""
        state = self.state
        state.evaluated = state.step
        self._journal.write("evaluation", state.step, measured)
        if self._settings.metric is None:
            return
        value = float(measured[self._settings.metric])
        if self._settings.improves(value, state.best):
            state.best, state.best_step, state.stale = value, state.step, 0
            self._best.save(self._model, state.step)
            # a run that is killed now goes on from its checkpoint, perhaps elsewhere: what is best there has to stay
            self._best.keep_only(state.step, self._saved["best_step"] if self._saved else None)
        else:
            state.stale += 1

    def note(self, lines: Mapping[str, dict[str, Any]]) -> None:
        """Adds lines to the log, by event."""
        for event, values in lines.items():
            self._journal.write(event, self.state.step, values)

    @property
    def begins(self) -> bool:
        """Whether nothing is logged yet, and this process logs."""
        return here().first and not self._journal.lines

    def due(self) -> bool:
        """Whether a checkpoint is to be saved now: every so many steps or minutes."""
        every = self._settings.save_every
        if every is not None:
            return self.state.step % every == 0
        return time.monotonic() - self._saved_at >= 60 * (self._settings.save_minutes or _SAVE_MINUTES)

    def save(self) -> None:
        """Saves a checkpoint, unless nothing has happened since the last."""
        state = self.state.to_dict()
        if self._checkpoint is None or state == self._saved:
            return
        content = {"loop": state, "stream": self._stream.state(), "identity": self._identity}
        content["log_end"] = self._journal.end()
        self._checkpoint.save(self._model, self._optimizer, content, self._average)
        self._saved, self._saved_at = state, time.monotonic()
        self._best.keep_only(self.state.best_step)

    def told(self) -> str:
        """Where the run stopped and how it goes on, in one sentence."""
        where = f"Stopped after step {self.state.step:,} of {self.state.steps:,}"
        if self._checkpoint is None:
            return f"{where}; nothing was saved, because no output folder was given."
        return f"{where}; the checkpoint is in {self._checkpoint.folder}: the same command continues it."

    def tell_end(self) -> None:
        """Says why the run ended, where that was before its last step."""
        if here().first and (told := History.of(self.state, []).ending):
            say(told)

    def advice(self, rate: float) -> str:
        """What to do about numbers that are not finite, and where the last good ones are."""
        ways = f"lower the learning rate (here {rate:.2g})"
        if self.state.rate_share < 1:
            ways = f"the rate was lowered once already; {ways}"
        if self._identity["precision"] != "float32":
            ways += " or train with --precision float32"
        if self._checkpoint is None or self._saved is None:
            return ways
        return f"{ways}; the checkpoint of step {self._saved['step']:,} is kept in {self._checkpoint.folder}"

    def history(self) -> History:
        """The history of the run; the model gets its best weights if there is a metric, else the average if any."""
        here().gathered(None)  # what the first process writes is written
        if self.state.best_step is not None:
            self._best.load(self._model, self.state.best_step)
        elif self._average is not None:
            self._average.put()
        return History.of(self.state, self._journal.lines)

    def _continue(self, checkpoint: Checkpoint, resume: bool, force: bool) -> int:
        """Picks the run up again; returns where its log ended."""
        out = checkpoint.folder.parent
        if not resume:
            raise BothwaysError(
                f"{out} holds a run that can be resumed: choose another --out, --overwrite or resume it"
            )
        saved = checkpoint.read_state()
        self.changed = differences(saved["identity"], self._identity)
        _check_changes(out, self.changed, force)
        self._restore(checkpoint, saved)
        if self.changed:
            _decide_anew(self.state, self._settings, self.changed)
        return int(saved["log_end"])

    def _restore(self, checkpoint: Checkpoint, saved: dict[str, Any]) -> None:
        """Puts everything as it was when the checkpoint was saved, but for the log."""
        checkpoint.load(self._model, self._optimizer, self._average)
        self._stream.restore(saved["stream"])
        self._saved = saved["loop"]
        self.state = LoopState.from_dict(saved["loop"])

    def go_back(self, why: str) -> bool:
        """Goes back to the last good state, and on from there with half the rate, once in a run.

        That is the checkpoint, or the present one where there is none: what was not finite has changed no weight.

        Args:
            why: What was not finite.

        Returns:
            Whether it went back; the second time it does not.
        """
        if self.state.rate_share < 1:
            return False
        best = self.state.best, self.state.best_step
        if self._checkpoint is not None and self._checkpoint.exists():
            here().gathered(None)  # nobody reads while the first process still writes
            saved = self._checkpoint.read_state()
            self._restore(self._checkpoint, saved)
            if best != (self.state.best, self.state.best_step):
                self.state.best, self.state.best_step = best  # of weights that are kept apart
                self.state.stale = 0
            self._journal.cut(int(saved["log_end"]))
        self.state.rate_share = LOWERED
        told = f"back to step {self.state.step:,}, and on with {LOWERED:.0%} of the learning rate, this once"
        say(f"{why[:1].upper()}{why[1:]}: {told}")
        self.note({"rollback": {"why": why, "rate_share": LOWERED}})
        self.save()
        return True


def differences(there: dict[str, Any], here: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """The values in which two runs differ: by name, what each is there and here, in words."""
    found: dict[str, str] = {}
    for name in dict.fromkeys([*there, *here]):
        old, new = there.get(name), here.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found |= differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found[prefix + name] = f"{prefix}{name} is {reprlib.repr(old)} there and {reprlib.repr(new)} here"
    return found


def _check_changes(out: Path, changed: dict[str, str], force: bool) -> None:
    """Refuses to continue a run with other settings, unless they are harmless and it is forced."""
    harmful = [name for name in changed if name not in _HARMLESS]
    if not changed or (force and not harmful):
        return
    ways = "choose another --out or --overwrite"
    if not harmful:
        ways += ", or --force to go on with them"
    elif force:
        ways += f"; --force does not help, for another {' and '.join(harmful)} would make the checkpoint meaningless"
    raise BothwaysError(f"{out} holds another run ({'; '.join(changed.values())}): {ways}")


def _decide_anew(state: LoopState, settings: LoopSettings, changed: Collection[str]) -> None:
    """Decides again what had followed from settings that are others now."""
    if "steps" in changed or "minutes" in changed:
        state.steps = _steps_in_all(state, settings)
    if any(name in changed for name in ("steps", "minutes", "evaluate_every")):
        state.interval = settings.evaluation_interval(state.steps)
    if "metric" in changed or "better" in changed:
        state.best, state.best_step, state.stale = None, None, 0  # values of two metrics cannot be compared
    if "learning_rate" in changed or "precision" in changed:
        state.rate_share = 1.0  # what was lowered was another rate
    if state.step < state.steps:
        state.stopped = None
        if settings.patience is not None and state.stale >= settings.patience:
            state.stale = 0  # else it would end after a step


def _steps_in_all(state: LoopState, settings: LoopSettings) -> int:
    """The steps of a run that is to end otherwise; by time, as many as fit at the pace so far.

    Raises:
        BothwaysError: None are left to take.
    """
    taken, steps, minutes = state.step, settings.steps, settings.minutes
    if steps is not None and steps <= taken:
        raise BothwaysError(
            f"the run has taken {taken:,} steps already, which leaves none of steps={steps:,}: give more"
        )
    if minutes is None:
        return steps or state.steps
    if not taken:
        return 0  # the loop tries out how many fit
    fitting = int(taken * 60 * minutes / max(state.seconds, 1e-9))
    if fitting <= taken:
        spent = f"{state.seconds / 60:,.1f} minutes"
        raise BothwaysError(
            f"the run has taken {spent} already, which leaves no step of minutes={minutes:g}: give more"
        )
    return min(fitting, steps or fitting)
