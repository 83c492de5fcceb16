"""The course of a pre-training run, put together from all that it left: log, settings, checkpoint, corpus.

Older runs and runs that go on have left less. What is not there is None or empty, and every check says nothing then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.learn.diagnosis.finding import HELD_OUT, LOG
from bothways.learn.record import RUN, Record, read_record
from bothways.model.config import EncoderConfig
from bothways.run.files import read_json

MLM = "mlm"
"""The name of what guesses masked tokens, be it an encoder or the generator beside one."""
_PRETRAIN, _EVALUATIONS = "pretrain", 8


class Series:
    """What was logged again and again: numbers by name, in order; NaN where a line lacks one.

    Attributes:
        steps: ``(N,)`` the steps of the lines.
    """

    def __init__(self, lines: Sequence[dict[str, Any]]) -> None:
        self.steps = np.array([line["step"] for line in lines], dtype=np.int64)
        names = dict.fromkeys(name for line in lines for name in line)
        self._values = {name: _numbers(lines, name) for name in names if name not in ("event", "step")}

    def __len__(self) -> int:
        return len(self.steps)

    def __contains__(self, name: str) -> bool:
        return name in self._values and bool(np.isfinite(self._values[name]).any())

    @property
    def names(self) -> tuple[str, ...]:
        """What is logged."""
        return tuple(self._values)

    def __getitem__(self, name: str) -> np.ndarray:
        """``(N,)`` the numbers of a name."""
        return self._values.get(name, np.full(len(self), np.nan))

    def within(self, name: str, begin: float, end: float) -> np.ndarray:
        """The finite numbers of the lines between two shares of all lines; at least one line is taken."""
        first = min(int(begin * len(self)), max(len(self) - 1, 0))
        found = self[name][first : max(first + 1, math.ceil(end * len(self)))]
        return found[np.isfinite(found)]

    def mean(self, name: str, begin: float, end: float) -> float:
        """The mean of `within`; NaN if there is none."""
        found = self.within(name, begin, end)
        return float(found.mean()) if len(found) else math.nan

    def noise(self, name: str) -> float:
        """How far a line lies from the course of the lines around it, as a standard deviation."""
        found = self.within(name, 0.2, 1.0)
        steps = np.abs(np.diff(found))
        return float(np.median(steps) / 0.954) if len(steps) else 0.0  # of a normal: 0.6745 * sqrt(2)


def _numbers(lines: Sequence[dict[str, Any]], name: str) -> np.ndarray:
    values = (line.get(name) for line in lines)
    return np.array([value if isinstance(value, int | float) else np.nan for value in values], dtype=np.float64)


@dataclass(frozen=True)
class Course:
    """A run as the checks see it.

    Attributes:
        folder: Where it lies.
        over: Whether it has ended.
        steps: Steps that were to be taken; 0 if that is not known.
        log: Its lines on training.
        held_out: Its lines on evaluation.
        settings: Its settings, by the names of `bothways.pretrain`.
        config: Its encoder; None if that is not known.
        facts: `corpus_facts` of its corpus; empty if that is not there.
        insight: The last line on frequent and rare words; empty without one.
        fingerprint: Of its corpus; empty if that is not known.
        failure: Why it broke off, in the words of the error; empty if it did not.
        missing: What is not known, one sentence each.
    """

    folder: Path
    over: bool
    steps: int
    log: Series
    held_out: Series
    settings: dict[str, Any] = field(default_factory=dict)
    config: EncoderConfig | None = None
    facts: dict[str, float] = field(default_factory=dict)
    insight: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    failure: str = ""
    missing: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(max(self.log.steps.max(initial=0), self.held_out.steps.max(initial=0)))

    @property
    def progress(self) -> float:
        """The share of the run's steps that are taken; 1 if the run is over, 0 if nobody knows."""
        if self.over:
            return 1.0
        return min(1.0, self.step / self.steps) if self.steps else 0.0

    @property
    def level(self) -> float:
        """The loss of masked tokens at the end so far: the mean of the last tenth of the lines; NaN without."""
        return self.log.mean(f"loss.{MLM}", 0.9, 1.0)

    @property
    def accuracy(self) -> float:
        """The share of masked tokens that are guessed right, likewise."""
        return self.log.mean(f"accuracy.{MLM}", 0.9, 1.0)

    @property
    def unigram_loss(self) -> float:
        """The loss of guessing by the frequencies of tokens alone; NaN if that is not known."""
        return self.facts.get("unigram_loss") or math.nan

    @property
    def gained(self) -> float:
        """The share of that loss which the model has taken away by reading the context; NaN if that is not known."""
        return 1 - self.level / self.unigram_loss

    @property
    def rate(self) -> float:
        """The highest learning rate so far, or that which was asked for."""
        logged = self.log.within("rate", 0.0, 1.0)
        return float(max(logged.max(initial=0.0), self.settings.get("learning_rate") or 0.0))

    @property
    def suited_rate(self) -> float:
        """The rate that `bothways pretrain` would take; NaN if the encoder is not known."""
        from bothways.learn.start import suited_rate

        if self.config is None:
            return math.nan
        optimizer = self.settings.get("optimizer") or ("adamw" if self.settings.get("base") else "muon")
        return suited_rate(self.config.width, optimizer)

    def second_half(self, name: str) -> tuple[str, float, float]:
        """Where it is from, a loss in the middle and at the end: of held-out text, if it was measured often enough.

        There it is always made of the same guesses, so small differences mean something.
        """
        series = self.held_out if self.measured_often(name) else self.log
        source = HELD_OUT if series is self.held_out else LOG
        return source, series.mean(name, 0.35, 0.6), series.mean(name, 0.95, 1.0)

    def measured_often(self, name: str) -> bool:
        """Whether held-out text was measured often enough to tell the course of a run."""
        return name in self.held_out and len(self.held_out) >= _EVALUATIONS

    def standard_error(self, name: str, share: float) -> float:
        """How uncertain the mean of a share of the lines is."""
        return self.log.noise(name) / math.sqrt(max(1.0, share * len(self.log)))


def read_course(run: str | Path) -> Course:
    """Puts together what a run has left.

    Raises:
        BothwaysError: There is no run, or it is not one of pre-training.
    """
    folder = Path(run).parent if Path(run).name == RUN else Path(run)
    told = _is_told(folder)
    record = read_record(folder)
    log = Series(record.of("step"))
    saved = _checkpoint(folder)
    settings = _settings(record, saved)
    if not told and not any(name.partition(".")[2] in _objectives() for name in log.names if name.startswith("loss.")):
        raise BothwaysError(f"{folder} is no run of bothways pretrain, and no other can be diagnosed")
    missing: list[str] = []
    config = _config(record, saved, settings)
    if config is None:
        missing.append("The encoder is not known, so its learning rate and its size could not be judged.")
    facts = _facts(record, settings)
    if not facts:
        missing.append(
            "The corpus is not beside the run, so word frequencies, the vocabulary and repeated text were not judged."
        )
    insights, failures = record.of("insight"), record.of("failure")
    return Course(
        folder=folder,
        over=record.run.get("results") is not None or bool(failures),
        steps=_planned(record, saved),
        log=log,
        held_out=Series(record.of("evaluation")),
        settings=settings,
        config=config,
        facts=facts,
        insight=insights[-1] if insights else {},
        fingerprint=str(record.run.get("data", {}).get("corpus") or saved.get("identity", {}).get("corpus") or ""),
        failure=str(failures[-1].get("why", "")) if failures else "",
        missing=tuple(missing),
    )


def _is_told(folder: Path) -> bool:
    """Whether a folder says of itself that it is a pre-training run; refuses those of other commands.

    Where it says nothing, the names of the losses tell. Those of teachers are not among them.
    """
    if not (folder / RUN).is_file():
        return False
    command = read_json(folder / RUN).get("command")
    if command == "quickstart":
        raise BothwaysError(f"{folder} is a quickstart: what it pre-trained is in {folder / 'pretrained'}")
    if command != _PRETRAIN:
        raise BothwaysError(
            f"{folder} is a run of bothways {command}: only those of bothways pretrain can be diagnosed"
        )
    return True


def _objectives() -> set[str]:
    """The names under which losses of pre-training are logged."""
    from bothways.learn.objectives.recipe import OBJECTIVES

    return set(OBJECTIVES)


def _checkpoint(folder: Path) -> dict[str, Any]:
    """The state of an unfinished run; empty without one."""
    from bothways.learn.checkpoint import Checkpoint

    checkpoint = Checkpoint(folder)
    return checkpoint.read_state() if checkpoint.exists() else {}


def _settings(record: Record, saved: dict[str, Any]) -> dict[str, Any]:
    """The settings by name: as the run ended, else as its checkpoint and the first line of its log have them."""
    identity = dict(saved.get("identity", {}))
    objective = identity.pop("objective", None)
    told = {**identity, **(objective if isinstance(objective, dict) else {})}
    begun: dict[str, Any] = next(
        (line["settings"] for line in record.of("run") if isinstance(line.get("settings"), dict)), {}
    )
    final = {name: value for name, value in record.run.get("settings", {}).items() if value is not None}
    settings = {**begun, **{name: value for name, value in told.items() if name != "corpus"}, **final}
    if settings.get("precision") in (None, "auto"):
        machine = record.run.get("machine", {})
        settings["precision"] = told.get("precision") or machine.get("precision", {}).get("name")
    return settings


def _planned(record: Record, saved: dict[str, Any]) -> int:
    """The steps that were to be taken; 0 if nothing says so."""
    told = (
        (record.run.get("settings") or {}).get("steps"),
        (saved.get("loop") or {}).get("steps"),
        *(line.get("steps") for line in record.of("run")),
    )
    return next((int(steps) for steps in told if steps), 0)


def _config(record: Record, saved: dict[str, Any], settings: dict[str, Any]) -> EncoderConfig | None:
    """The encoder that is trained: as saved, as its checkpoint or log has it, or by the names of family and size."""
    from bothways.model.families import family
    from bothways.run.folder import encoder_config

    try:
        if (record.folder / "model" / "config.json").is_file():
            return encoder_config(record.folder / "model")
        for told in (saved.get("identity", {}).get("model"), *(line.get("config") for line in record.of("run"))):
            if isinstance(told, dict):
                return EncoderConfig.from_dict(told, str(record.folder))
        if "family" in settings and "size" in settings and not settings.get("base"):
            return family(settings["family"]).size(settings["size"])
    except BothwaysError:
        pass
    return None


def _facts(record: Record, settings: dict[str, Any]) -> dict[str, float]:
    """What the corpus is like: as logged, else counted now if the prepared corpus is still there."""
    from bothways.learn.corpus_facts import corpus_facts
    from bothways.text.shards import INDEX, Corpus

    for line in reversed(record.of("corpus")):
        return {name: float(value) for name, value in line.items() if isinstance(value, int | float) and name != "step"}
    given = settings.get("corpus")
    places = [record.folder / "corpus", *([Path(given)] if isinstance(given, str) else [])]
    for place in places:
        if (place / INDEX).is_file():
            try:
                with Corpus.open(place) as corpus:
                    return corpus_facts(corpus)
            except BothwaysError:
                continue
    return {}
