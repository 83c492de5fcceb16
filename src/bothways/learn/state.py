"""What a training run knows about itself: its state, which a checkpoint holds, and its history, which it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bothways.learn.record import ending
from bothways.learn.tally import Tally
from bothways.learn.utilisation import utilisation


@dataclass(frozen=True)
class Taken:
    """What a step was.

    Attributes:
        tally: Its sums and counts.
        tokens: Its tokens.
        seconds: How long it took.
        waiting: Of those, the seconds until its data were ready.
        work: Multiplications of its products (`bothways.learn.utilisation`); 0 where nobody counts them.
    """

    tally: Tally
    tokens: int
    seconds: float
    waiting: float = 0.0
    work: float = 0.0


@dataclass
class LoopState:
    """Everything beside weights, optimizer and data position that the rest of a run depends on.

    Attributes:
        steps: Steps of the whole run; 0 until that is decided.
        interval: Steps between evaluations.
        step: Steps taken so far.
        tokens: Tokens seen so far.
        seconds: Seconds the run has taken so far, those before an interruption included.
        busy: Of those, the seconds spent on steps, not on evaluations and checkpoints.
        evaluated: The step of the last evaluation, -1 before the first.
        best: The best value of the metric so far.
        best_step: Its step.
        stale: Evaluations since then.
        pending: The sums and counts since the last line of the log.
        pending_tokens: The tokens since then.
        pending_busy: The seconds spent on steps since then.
        pending_waiting: Of those, the seconds until data were ready.
        pending_work: The multiplications since then.
        rate_share: Of the learning rate: lowered once, after numbers that were not finite.
        stopped: Why the run ended; None while it goes on.
    """

    steps: int = 0
    interval: int = 0
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    evaluated: int = -1
    best: float | None = None
    best_step: int | None = None
    stale: int = 0
    pending: Tally = field(default_factory=Tally)
    pending_tokens: int = 0
    pending_busy: float = 0.0
    pending_waiting: float = 0.0
    pending_work: float = 0.0
    rate_share: float = 1.0
    stopped: str | None = None

    @property
    def progress(self) -> float:
        """The share of the run's steps that were taken."""
        return self.step / self.steps

    @property
    def next_progress(self) -> float | None:
        """The same after one more step; None if that is the last."""
        return (self.step + 1) / self.steps if self.step + 1 < self.steps else None

    def took_step(self, taken: Taken) -> None:
        """Adds a step."""
        self.step += 1
        self.tokens += taken.tokens
        self.busy += taken.seconds
        self.pending.add(taken.tally.sums, taken.tally.counts)
        self.pending.weights = taken.tally.weights
        self.pending_tokens += taken.tokens
        self.pending_busy += taken.seconds
        self.pending_waiting += taken.waiting
        self.pending_work += taken.work

    def due(self, every: int) -> bool:
        """Whether what is done every so many steps, and after the last one, is due after the next step."""
        return (self.step + 1) % every == 0 or self.step + 1 == self.steps

    def clear_pending(self) -> None:
        """Begins anew to add up for the next line of the log."""
        self.pending, self.pending_tokens, self.pending_busy = Tally(), 0, 0.0
        self.pending_waiting = self.pending_work = 0.0

    @property
    def speed(self) -> float:
        """Tokens a second, over all steps."""
        return self.tokens / max(self.busy, 1e-9)

    def pace(self, roof: float | None) -> dict[str, float]:
        """How fast it went since the last line of the log.

        Args:
            roof: Operations a second that the machine can do; None if nobody counts operations.

        Returns:
            ``tokens_per_second``, ``waiting`` (share of the time) and, with a roof, ``utilisation``.
        """
        seconds = max(self.pending_busy, 1e-9)
        pace = {"tokens_per_second": self.pending_tokens / seconds, "waiting": self.pending_waiting / seconds}
        return pace if roof is None else pace | {"utilisation": utilisation(self.pending_work, seconds, roof)}

    def to_dict(self) -> dict[str, Any]:
        """The state as JSON can hold it, exactly."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoopState:
        """The state that `to_dict` wrote."""
        return cls(**{**values, "pending": Tally(**values["pending"])})


@dataclass(frozen=True)
class History:
    """What happened in a run.

    Attributes:
        training: The log's lines on training: ``step``, ``loss``, a loss and accuracy for each kind of prediction,
            ``rate``, ``gradient_norm``, ``tokens`` (so far), ``tokens_per_second``, ``seconds`` (so far),
            ``waiting`` (the share of the time in which data were not ready), ``utilisation`` (the share of the
            machine's arithmetic that was used, `bothways.learn.utilisation`) if the objective counts its work, and
            ``epoch`` if the stream knows it.
        evaluations: Its lines on evaluation: ``step`` and the measured values.
        steps: Steps taken; given as `steps`, with the same seed, they repeat the run.
        planned: Steps that were to be taken.
        interval: Steps between evaluations; a run with a metric is repeated by `steps` and this `evaluate_every`.
        tokens: Tokens seen.
        seconds: Seconds taken.
        tokens_per_second: Over all steps, without the time for evaluations and checkpoints.
        best: The best value of the metric; None without one.
        best_step: Its step.
        stopped: Why the run ended: "all steps taken", "no more data", "no better metric", "callback".
    """

    training: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    steps: int
    planned: int
    interval: int
    tokens: int
    seconds: float
    tokens_per_second: float
    best: float | None
    best_step: int | None
    stopped: str

    @classmethod
    def of(cls, state: LoopState, lines: list[dict[str, Any]]) -> History:
        """The history of a run that has ended.

        Args:
            state: How it ended.
            lines: Its log.
        """
        figures = {
            "steps": state.step,
            "planned": state.steps,
            "interval": state.interval,
            "tokens": state.tokens,
            "seconds": state.seconds,
            "tokens_per_second": state.speed,
            "best": state.best,
            "best_step": state.best_step,
            "stopped": state.stopped or "",
        }
        return cls.read(figures, lines)

    def figures(self) -> dict[str, Any]:
        """How the run ended, without its log: what `read` reads again."""
        return {each.name: getattr(self, each.name) for each in fields(self)[2:]}

    @classmethod
    def read(cls, figures: dict[str, Any], lines: list[dict[str, Any]]) -> History:
        """The history of a run from its `figures` and its log."""
        training, evaluations = ([line for line in lines if line["event"] == event] for event in ("step", "evaluation"))
        return cls(training, evaluations, **figures)

    @property
    def ending(self) -> str | None:
        """Why the run ended before its last step, in a sentence; None if it did not."""
        return ending(self.figures())

    def values(self, name: str) -> list[float]:
        """One value of all training lines, such as ``"loss"``; `training` has their steps."""
        return [line[name] for line in self.training]
