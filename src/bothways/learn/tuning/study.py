"""A search for settings on the disk: which trials there were, what is tried next, which was best.

Optuna (Akiba et al. 2019) proposes the settings, by trees of Parzen estimators (Bergstra et al. 2011), and stops trials
that do worse half-way than half of those before did. What it knows is in ``trials.jsonl``, a line an event.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.learn.group import Made, adopt_model, run_once
from bothways.learn.keeper import differences
from bothways.learn.protocol import StepEvent
from bothways.learn.runs import check_out, check_unread, read_run
from bothways.learn.settings import LoopSettings
from bothways.learn.tuning.search import Choices, Range, Space
from bothways.progress import say
from bothways.whole import replace_text

JOURNAL = "trials.jsonl"
_UNPRUNED, _RANDOM = 4, 8
"""Trials before the first may be stopped early; trials before proposals are more than random."""


class _Pruned(Exception):  # noqa: N818
    """Ends a trial that does worse than others did."""


class Search:
    """A search in a folder, trial by trial.

    Args:
        folder: Of the search.
        space: What is tried.
        identity: What makes it this search.
        metric: What is searched for.
        seed: Of the proposals.
        overwrite: Whether another search is thrown away.
        reads: What trials are made from, which is never thrown away.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        identity: dict[str, Any],
        metric: str,
        seed: int,
        overwrite: bool,
        reads: Sequence[Any] = (),
    ) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        self.folder, self.space, self.metric, self.seed = folder, space, metric, seed
        self._judge = LoopSettings(learning_rate=1.0, steps=1, metric=metric)
        journal = folder / JOURNAL
        if overwrite and journal.exists():
            own = [journal, *folder.glob("trial-*")]
            check_unread(own, reads)
            check_out(folder, overwrite=True, reads=reads)
            for path in own:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif not journal.exists():
            check_out(folder, overwrite=overwrite, reads=reads)
        folder.mkdir(parents=True, exist_ok=True)
        _cut_torn_line(journal)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(journal)))
        self._study = optuna.create_study(
            study_name="bothways",
            storage=self._storage,
            direction="maximize" if self._judge.improves(1.0, 0.0) else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED),
            load_if_exists=True,
        )
        self._same(json.loads(json.dumps(identity, default=str)))
        self._states = optuna.trial.TrialState
        for trial in self._finished():  # what a kill may have left
            shutil.rmtree(folder / f"trial-{trial.number}", ignore_errors=True)

    def _same(self, identity: dict[str, Any]) -> None:
        there = self._study.user_attrs.get("identity")
        if there is None:
            self._study.set_user_attr("identity", identity)
        elif changed := "; ".join(differences(there, identity).values()):
            raise BothwaysError(f"{self.folder} holds another search ({changed}): choose another --out or --overwrite")

    @property
    def done(self) -> int:
        """Trials that have ended."""
        return len(self._finished())

    def over(self, began: float, minutes: float | None) -> bool:
        """Whether there is no time for another trial."""
        if minutes is None:
            return False
        took = [trial.user_attrs["seconds"] for trial in self._finished() if "seconds" in trial.user_attrs]
        left = 60 * minutes - (time.monotonic() - began)
        return self.done > 0 and left < (statistics.median(took) if took else 0.0)

    def trial(self, task: str, trials: int, fixed: dict[str, Any]) -> None:
        """Makes a trial, or ends the one that was running when the search was stopped."""
        trial = self._next()
        tried = {name: self._suggest(trial, name, each) for name, each in self.space.items()}
        if (twin := self._twin(tried)) is not None:
            say(f"trial {self.done + 1} of {trials} would repeat trial {twin.number + 1}")
            whole = twin.state == self._states.COMPLETE
            for step, seen in twin.intermediate_values.items():
                trial.report(seen, step)  # of one that was stopped the last of these is noted, and no other value
            self._study.tell(trial, twin.value if whole else None, twin.state)
            return
        say(f"trial {self.done + 1} of {trials}: " + ", ".join(f"{name} {_short(v)}" for name, v in tried.items()))
        folder, began = self.folder / f"trial-{trial.number}", time.monotonic()
        callbacks = [*fixed.get("callbacks", ()), lambda event: self._watch(trial, event, fixed["evaluate_every"])]
        value = None
        try:
            made = run_once(task, folder, **{**fixed, **tried, "callbacks": callbacks})
        except _Pruned:
            state = self._states.PRUNED
            say(f"trial {self.done + 1} stopped early: it does worse than others did")
        except (BothwaysError, MemoryError, torch.OutOfMemoryError) as error:
            why = str(error) if isinstance(error, BothwaysError) else "it ran out of memory"
            if not any(each.state == self._states.COMPLETE for each in self._finished()):
                shutil.rmtree(folder, ignore_errors=True)
                self._study.tell(trial, state=self._states.FAIL)
                if isinstance(error, BothwaysError):
                    raise
                raise BothwaysError(
                    f"the first trial failed: {why}; search smaller batches or shorter texts"
                ) from error
            state = self._states.FAIL
            trial.set_user_attr("why", why)
            say(f"trial {self.done + 1} failed: {why}")
        else:
            state, value = self._states.COMPLETE, float(made.results[self.metric])
            best = self._best()
            if math.isnan(value):
                state, value = self._states.FAIL, None
                trial.set_user_attr("why", f"{self.metric} is not defined for its answers")
            elif self._judge.improves(value, None if best is None else best.value):
                self._adopt(made, fixed.get("report", True))
        trial.set_user_attr("seconds", time.monotonic() - began)
        self._study.tell(trial, value, state)
        shutil.rmtree(folder, ignore_errors=True)

    def best(self) -> dict[str, Any]:
        """The best trial.

        Raises:
            BothwaysError: No trial has come to its end.
        """
        best = self._best()
        if best is None:
            raise BothwaysError(f"no trial in {self.folder} came to its end: search more modest settings")
        return self.trials()[best.number]

    def trials(self) -> list[dict[str, Any]]:
        """All trials as plain data, in their order."""
        return [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state == self._states.COMPLETE else None,
                "settings": dict(trial.params),
                **{name: trial.user_attrs[name] for name in ("why",) if name in trial.user_attrs},
            }
            for trial in self._trials()
        ]

    def _trials(self) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False))

    def _finished(self) -> list[Any]:
        return [trial for trial in self._trials() if trial.state.is_finished()]

    def _best(self) -> Any:
        found = None
        for trial in self._finished():
            better = trial.state == self._states.COMPLETE and self._judge.improves(
                trial.value, None if found is None else found.value
            )
            found = trial if better else found
        return found

    def _next(self) -> Any:
        """The trial that was running, else a new one; what it tries follows from the seed and the trials before."""
        import optuna

        running = [trial for trial in self._trials() if not trial.state.is_finished()]
        number = running[0].number if running else len(self._trials())
        seed = derived_seed("trial", self.seed, number) % 2**32
        self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM)
        if not running:
            return self._study.ask()
        study_id = self._storage.get_study_id_from_name(self._study.study_name)
        return optuna.trial.Trial(self._study, self._storage.get_trial_id_from_study_id_trial_number(study_id, number))

    @staticmethod
    def _suggest(trial: Any, name: str, each: Range | Choices) -> Any:
        if isinstance(each, Choices):
            return trial.suggest_categorical(name, each.values)
        if each.whole:
            return trial.suggest_int(name, int(each.low), int(each.high), log=each.log)
        return trial.suggest_float(name, each.low, each.high, log=each.log)

    def _twin(self, tried: dict[str, Any]) -> Any:
        """An earlier trial of the same settings: it would give the same again."""
        ended = (self._states.COMPLETE, self._states.PRUNED)
        found = [each for each in self._finished() if each.params == tried and each.state in ended]
        return found[0] if found else None

    def _watch(self, trial: Any, event: StepEvent, every: float) -> None:
        """Tells Optuna of an evaluation, once; ends the trial where that says so."""
        if self.metric not in event.evaluation:
            return
        place = round(event.step / event.steps / every) if every < 1 else event.step
        if place not in self._trials()[trial.number].intermediate_values:
            trial.report(event.evaluation[self.metric], place)
        if event.step < event.steps and trial.should_prune():
            raise _Pruned

    def _adopt(self, made: Made, report: bool) -> None:
        """Makes the model of a trial the model of the search, and its run the run that is repeated."""
        assert made.folder is not None
        adopt_model(made.folder, self.folder)
        run = read_run(made.folder)
        run["settings"] |= {"out": str(self.folder), "report": report}
        replace_text(self.folder / "run.json", json.dumps(run, indent=2, ensure_ascii=False) + "\n")


def _cut_torn_line(journal: Path) -> None:
    """Takes away what a kill left of a last line, which nothing could be written after."""
    if journal.exists() and not (whole := journal.read_bytes()).endswith(b"\n"):
        journal.write_bytes(whole[: whole.rfind(b"\n") + 1])


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
