"""What a saved model came from, as the record of its run says, if it is still there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.learn.runs import read_run
from bothways.learn.settings import picked
from bothways.learn.tasks import make_task, settings_of
from bothways.learn.tasks.protocol import Data, Task
from bothways.learn.tuning.settings import TuningSettings
from bothways.learn.tuning.start import untrained, with_dev
from bothways.run.model import Model, load


@dataclass(frozen=True)
class Origin:
    """A model's fine-tuning.

    Attributes:
        settings: Of the run, as ``run.json`` has them; empty where there is no run.
        train: What was learned from; None if it is not at hand, or no longer what it was.
        missing: Why it is None, in a sentence.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    train: Data | None = None
    missing: str = ""


def settings_of_run(name: str, task: str) -> dict[str, Any]:
    """The task's own settings in the run that a model was loaded from, columns among them; those that were given."""
    return _own(_run(name).get("settings", {}), task)


def find_origin(name: str, task: Task) -> Origin:
    """Reads what a model was trained on, and makes sure that it is the same still.

    Args:
        name: What the model was loaded from: a run's folder, or the model or adapter in it.
        task: What it was trained for.
    """
    run = _run(name)
    if not run:
        return Origin(missing="What the model was trained on is not known")
    settings, told = run["settings"], run.get("data", {}).get("train", {})
    source = settings.get("train")
    try:
        paths = [source] if isinstance(source, str) else list(source or [])
        if not paths or not all(Path(path).exists() for path in paths):
            return Origin(settings, missing=f"The training data ({told.get('name', 'unknown')}) are not at hand")
        train: Data = task.read(source)
        if settings.get("dev") is None and train.describe()["sha256"] != told.get("sha256"):
            train, _ = with_dev(task, train, None, int(run["seed"]))  # dev was a part of it, if not in memory
    except BothwaysError as error:
        return Origin(settings, missing=f"The training data cannot be read: {error}")
    if train.describe()["sha256"] != told.get("sha256"):
        return Origin(settings, missing=f"The training data ({train.name}) are not what they were in training")
    return Origin(settings, train)


def before_training(origin: Origin, device: Any) -> Model | None:
    """The model as it was before its first step, made again; None if what it was made from is not at hand."""
    settings, base = origin.settings, origin.settings.get("base")
    if origin.train is None or not isinstance(base, str) or not Path(base).exists():
        return None
    if "task" not in settings:  # a folder of several runs whose own folders are gone
        return None
    task = make_task(settings["task"], _own(settings, settings["task"]))
    chosen = {name: settings[name] for name in ("dropout", "max_length", "truncation", "seed")}
    start = load(base, device="cpu")
    model, _ = untrained(task, start, origin.train, picked(TuningSettings, settings), device=device, **chosen)
    return model


def _own(settings: Mapping[str, Any], task: str) -> dict[str, Any]:
    """A task's own settings; JSON has made lists of tuples."""
    known = {key: settings[key] for key in settings_of(task) if settings.get(key) is not None}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}


def _run(name: str) -> dict[str, Any]:
    """The record of the run that a model lies in; empty if it lies in none."""
    path = Path(name)
    for folder in (path, path.parent) if path.name in ("model", "adapter") else (path,):
        if (folder / "run.json").is_file():
            run = read_run(folder)
            return _whole(run, folder) if str(run["command"]).startswith("finetune ") else {}
    return {}


def _whole(run: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The record of several runs with all settings: it has those that were given, the first of its runs the others."""
    parts = [part for name in ("seed-*", "fold-*") for part in sorted(folder.glob(f"{name}/run.json"))]
    if "task" in run["settings"] or not parts:
        return run
    return run | {"settings": read_run(parts[0].parent)["settings"] | run["settings"]}
