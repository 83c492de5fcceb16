"""What a training run knows about itself: its state, which a checkpoint holds, and its history, which it returns."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from bothways.learn.tally import Tally


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
    stopped: str | None = None

    def took_step(self, tally: Tally, tokens: int, busy: float) -> None:
        """Adds a step.

        Args:
            tally: Its sums and counts.
            tokens: Its tokens.
            busy: The seconds it took.
        """
        self.step += 1
        self.tokens += tokens
        self.busy += busy
        self.pending.add(tally.sums, tally.counts)
        self.pending.weights = tally.weights
        self.pending_tokens += tokens
        self.pending_busy += busy

    def clear_pending(self) -> None:
        """Begins anew to add up for the next line of the log."""
        self.pending, self.pending_tokens, self.pending_busy = Tally(), 0, 0.0

    @property
    def speed(self) -> float:
        """Tokens a second, over all steps."""
        return self.tokens / max(self.busy, 1e-9)

    @property
    def pending_speed(self) -> float:
        """Tokens a second since the last line of the log."""
        return self.pending_tokens / max(self.pending_busy, 1e-9)

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
            ``rate``, ``gradient_norm``, ``tokens`` (so far), ``tokens_per_second``, ``seconds`` (so far), and
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
        return cls(
            training=[line for line in lines if line["event"] == "step"],
            evaluations=[line for line in lines if line["event"] == "evaluation"],
            steps=state.step,
            planned=state.steps,
            interval=state.interval,
            tokens=state.tokens,
            seconds=state.seconds,
            tokens_per_second=state.speed,
            best=state.best,
            best_step=state.best_step,
            stopped=state.stopped or "",
        )

    def values(self, name: str) -> list[float]:
        """One value of all training lines, such as ``"loss"``; `training` has their steps."""
        return [line[name] for line in self.training]
