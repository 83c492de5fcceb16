"""The settings of a training run: one frozen value that refuses what makes no sense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from bothways.errors import BothwaysError, closest
from bothways.run.precision import check_precision

T = TypeVar("T")

OPTIMIZERS = ("adamw", "muon")
SCHEDULES = ("linear", "cosine", "constant")
_LOWER = ("loss", "mse", "mae")
"""What the names of metrics begin with that are better when lower."""
_NO_EFFECT = ("save_every", "save_minutes", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """How the loop trains. Contradictions raise a BothwaysError that names them.

    Attributes:
        learning_rate: The highest rate, reached at the end of the warm-up.
        steps: Optimizer steps to take, or at most to take if `minutes` is given too.
        minutes: A time budget. Before the first step a few steps are tried out and undone to see how many fit, so the
            run is one of that many `steps`, and giving that number repeats it exactly. Evaluations that would take more
            than a quarter of the time become fewer.
        warmup: Share of the steps in which the rate rises; 0.1 if `warmup_steps` is not given either.
        warmup_steps: The same as a number of steps.
        schedule: How the rate goes on after the warm-up: ``"linear"`` or ``"cosine"`` to zero, or ``"constant"``.
        layer_decay: What the rate of each layer is of that of the layer above it; heads have the full rate.
        head_rate: How many times the rate heads have, which begin anew; None: once.
        average: Decay of a moving average of the weights, which is then measured and kept in their place.
        optimizer: ``"adamw"``, or ``"muon"`` for the matrices between embeddings and heads, AdamW for the rest.
        weight_decay: Decoupled weight decay, not applied to biases and norms.
        betas: Decay rates of AdamW's two averages.
        eps: What AdamW adds to the denominator; BERT's 1e-6.
        clip: The longest gradient, over all parameters together; `math.inf` does not clip.
        seed: All randomness of the run follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        log_every: Steps between lines of the log, which hold the means since the line before.
        evaluate_every: Steps between evaluations, or a share of all steps if below 1; None: only at the end.
        metric: Name of the evaluated value that the best weights and the early stop go by. With it the model ends with
            its best weights, without it with its last.
        better: Whether a ``"higher"`` or ``"lower"`` metric is better; None: lower if it is a loss or an error.
        patience: Evaluations without a better metric after which the run stops; None: it does not stop early.
        save_every: Steps between checkpoints.
        save_minutes: Minutes between checkpoints; 5 if `save_every` is not given either.
        tensorboard: Whether TensorBoard's files are written beside the log.
    """

    learning_rate: float
    steps: int | None = None
    minutes: float | None = None
    warmup: float | None = None
    warmup_steps: int | None = None
    schedule: str = "linear"
    layer_decay: float = 1.0
    head_rate: float | None = None
    average: float | None = None
    optimizer: str = "adamw"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    clip: float = 1.0
    seed: int = 0
    precision: str = "auto"
    log_every: int = 10
    evaluate_every: float | None = None
    metric: str | None = None
    better: Literal["higher", "lower"] | None = None
    patience: int | None = None
    save_every: int | None = None
    save_minutes: float | None = None
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.steps is None and self.minutes is None:
            raise BothwaysError("training needs an end: give steps or minutes")
        check_whole(steps=self.steps, warmup_steps=self.warmup_steps, seed=self.seed)
        self._not_both("warmup", "warmup_steps")
        self._not_both("save_every", "save_minutes")
        self._check("learning_rate", 0 < self.learning_rate < math.inf, "above 0")
        self._check("steps", self.steps is None or self.steps >= 1, "1 or more")
        self._check("minutes", self.minutes is None or 0 < self.minutes < math.inf, "above 0")
        self._check("warmup", self.warmup is None or 0 <= self.warmup <= 1, "a share from 0 to 1")
        self._check("warmup_steps", self.warmup_steps is None or self.warmup_steps >= 0, "0 or more")
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if (value := getattr(self, name)) not in known:
                raise BothwaysError(f"{name} must be {' or '.join(known)}, not {value!r}{closest(value, known)}")
        self._check("layer_decay", 0 < self.layer_decay <= 1, "above 0, at most 1")
        self._check("head_rate", self.head_rate is None or 0 < self.head_rate < math.inf, "above 0")
        self._check("average", self.average is None or 0 < self.average < 1, "between 0 and 1")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more")
        self._check("betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1")
        self._check("eps", self.eps > 0, "above 0")
        self._check("clip", self.clip > 0, "above 0")
        self._check("seed", self.seed >= 0, "0 or more")
        self._check("log_every", self.log_every >= 1, "1 or more")
        every = self.evaluate_every
        counted = every is None or 0 < every < 1 or (1 <= every < math.inf and every == int(every))
        self._check("evaluate_every", counted, "steps or a share")
        self._check("better", self.better in (None, "higher", "lower"), "'higher' or 'lower'")
        self._check("patience", self.patience is None or self.patience >= 1, "1 or more")
        self._check("save_every", self.save_every is None or self.save_every >= 1, "1 or more")
        self._check("save_minutes", self.save_minutes is None or self.save_minutes > 0, "above 0")
        if self.patience is not None and (self.metric is None or every is None):
            raise BothwaysError("patience stops early by a metric: give metric and evaluate_every as well")
        if self.better is not None and self.metric is None:
            raise BothwaysError(f"better={self.better!r} says nothing without a metric: give metric as well")

    def warmup_of(self, steps: int) -> int:
        """The steps of warm-up in a run of so many steps."""
        if self.warmup_steps is not None:
            return min(self.warmup_steps, steps)
        return round((0.1 if self.warmup is None else self.warmup) * steps)

    def evaluation_interval(self, steps: int) -> int:
        """The steps between evaluations in a run of so many steps."""
        if self.evaluate_every is None:
            return steps
        return round(self.evaluate_every) if self.evaluate_every >= 1 else max(1, round(self.evaluate_every * steps))

    def improves(self, value: float, best: float | None) -> bool:
        """Whether a value of the metric is better than the best so far."""
        if best is None or math.isnan(value):
            return not math.isnan(value)
        lower = self.better == "lower" or (self.better is None and str(self.metric).startswith(_LOWER))
        return value < best if lower else value > best

    def identity(self) -> dict[str, Any]:
        """The settings that a run's numbers depend on: two runs that share them are the same run."""
        return {name: value for name, value in asdict(self).items() if name not in _NO_EFFECT}

    def _check(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise BothwaysError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    def _not_both(self, first: str, second: str) -> None:
        if getattr(self, first) is not None and getattr(self, second) is not None:
            raise BothwaysError(f"{first} and {second} say the same in two ways: give one of them")


def check_whole(**given: float | None) -> None:
    """Refuses numbers with a fraction, or without an end, where whole ones are counted; None is none.

    Raises:
        BothwaysError: One of them is.
    """
    for name, value in given.items():
        if value is not None and not (math.isfinite(value) and value == int(value)):
            raise BothwaysError(f"{name} must be a whole number, not {value!r}")


def picked(kind: type[T], given: Mapping[str, Any], **own: Any) -> T:
    """A value of settings from those of a verb that have the same names.

    Args:
        kind: A dataclass of settings.
        given: All that the verb was given; what the dataclass does not know is left out.
        own: What is to be otherwise than given.
    """
    names = {each.name for each in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in given.items() if name in names} | own)
