"""Measuring a fine-tuned model on labelled data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.learn.judging.copies import warn_of_overlap
from bothways.learn.judging.judgement import Before, judge, write_metrics
from bothways.learn.judging.origin import Origin, before_training, find_origin, settings_of_run
from bothways.learn.measures.collection import is_collection
from bothways.learn.measures.evaluate import evaluate_vectors
from bothways.learn.record import LOG, METRICS
from bothways.learn.report import PAGE, write_judgement
from bothways.learn.tasks import make_task, measured_on, settings_of
from bothways.learn.tasks.protocol import Data, Task
from bothways.paths import as_path
from bothways.report.page import write_page
from bothways.report.vectors_page import measured_page
from bothways.run.model import Model, load
from bothways.run.task import task_name
from bothways.text.truncation import Truncation

_COLUMNS = ("text", "text_pair", "label")


def evaluate(
    model: str | Path | Model,
    data: Any,
    *,
    adapter: str | Path | None = None,
    train: Any = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    seed: int = 0,
    precision: str = "float32",
    device: str | None = None,
    measure: str | None = None,
    split: str | None = None,
    pooling: str | None = None,
    dims: int | None = None,
    **own: Any,
) -> dict[str, Any]:
    """Measures a fine-tuned model on labelled data, or the vectors of any model, and says what its scores are worth.

    Vectors are measured where `measure`, `split`, `pooling` or `dims` are given, where the data is a folder with a
    corpus and queries, and where the model is one of sentence vectors that was not fine-tuned here.

    Args:
        model: A model, its folder, the folder of its run, or a hub id.
        data: Labelled rows, as `finetune` takes them; for vectors as `bothways.learn.measures.evaluate` says.
        adapter: The folder of a LoRA adapter, which is merged into the weights of `model`, its base.
        train: What the model was trained on, for baselines and to find copies; None takes what the record of its run
            names, if that is still what it was.
        out: A folder that gets ``metrics.json`` and ``report.html``.
        overwrite: Whether those of an earlier evaluation in `out` are replaced.
        seed: Of the bootstrap's resamples.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        measure: What vectors are to be good at: ``"sts"``, ``"pairs"``, ``"retrieval"``, ``"reranking"``,
            ``"bitext"`` or ``"clustering"``; None takes what the data suits.
        split: For retrieval, which judgements of the folder; None takes ``test``.
        pooling: How tokens become a vector; None: as the model was trained.
        dims: How many of the first values of a vector are used; None for all.
        own: Settings of the task, such as the names of columns; those that are not given are as in training.

    Returns:
        The task's metrics by name, and what else is found: `bothways.learn.judging.judgement.judge`; of vectors what
        `bothways.learn.measures.evaluate.evaluate_vectors` returns.

    Raises:
        BothwaysError: The model was not fine-tuned for a task, the adapter was made for another base, the data does not
            do, or `out` cannot be written.
    """
    folder = None if out is None else _checked(as_path(out), overwrite)
    if not isinstance(model, Model):
        model = load(model, precision=precision, device=device, adapter=adapter)
        model.name = model.name if adapter is None else str(adapter)
    elif adapter is not None:
        raise BothwaysError(f"{model.name} is loaded already: merge the adapter with bw.load(base, adapter=...)")
    asked = {"split": split, "pooling": pooling, "dims": dims}
    if any(value is not None for value in (measure, *asked.values())) or _is_for_vectors(model, data):
        return _of_vectors(model, data, measure, asked, own, folder, seed)
    task = task_of(model, own)
    test = data if isinstance(data, Data) else task.read(data)
    task, _ = measured_on(task, test)
    origin = find_origin(model.name, task) if train is None else Origin(train=task.read(train))
    copies = None if origin.train is None else warn_of_overlap(origin.train, test)
    model.truncated = Truncation()
    examined, cut = task.examine(model, test), model.truncated
    untrained = before_training(origin, model.device)
    zero = None if untrained is None else task.examine(untrained, test)
    judgement = judge(task, model, examined, test, cut, Before(origin.train, zero, copies), seed)
    if origin.missing:
        judgement["notes"].append(f"{origin.missing}: there are no baselines, and copies are not looked for.")
    if folder is not None:
        write_metrics(folder, judgement)
        write_judgement(folder, judgement)
    return judgement


def _is_for_vectors(model: Model, data: Any) -> bool:
    return is_collection(data) or (model.sentence.stated and model.task is None)


def _of_vectors(
    model: Model,
    data: Any,
    measure: str | None,
    asked: Mapping[str, Any],
    own: Mapping[str, Any],
    folder: Path | None,
    seed: int,
) -> dict[str, Any]:
    for setting in own:
        if setting not in _COLUMNS and own[setting] is not None:
            raise BothwaysError(f"vectors are measured without the setting {setting!r}{closest(setting, _COLUMNS)}")
    columns = {name: own.get(name) for name in _COLUMNS}
    found = evaluate_vectors(model, data, measure, seed=seed, **asked, **columns)
    if folder is not None:
        write_metrics(folder, found)
        write_page(folder / PAGE, measured_page(found))
    return found


def labelled_metric(model: Model, data: Any, **own: Any) -> Callable[[Model], float]:
    """What lower precision may be held to: the first metric of a model's task, on labelled rows.

    Args:
        model: A fine-tuned model.
        data: Labelled rows, as `finetune` takes them.
        own: Settings of the task, as in `evaluate`.

    Returns:
        A function, named as the metric is, that gives it for this model by whatever engine runs it.

    Raises:
        BothwaysError: The model was not fine-tuned for a task, or the data does not do.
    """
    task = task_of(model, own)
    test = task.read(data)

    def measure(candidate: Model) -> float:
        return float(task.examine(candidate, test).scores[task.metrics[0]])

    measure.__name__ = task.metrics[0]
    return measure


def task_of(model: Model, own: Mapping[str, Any]) -> Task:
    """The task that a model answers, with its settings as in training where nothing else is given.

    Raises:
        BothwaysError: It answers none, or the task has no such setting.
    """
    name = task_name(model)
    known = settings_of(name)
    for setting in own:
        if setting not in known and own[setting] is not None:
            near = closest(setting, known)
            raise BothwaysError(f"{name}, which {model.name} does, has no setting {setting!r}{near}")
    given = {setting: value for setting, value in own.items() if value is not None}
    noted = model.decoding.get("classify", {}).get("reading", {})  # how rows are read, wherever the model went
    return make_task(name, noted | settings_of_run(model.name, name) | given)


def _checked(out: Path, overwrite: bool) -> Path:
    """The folder, if it may be written."""
    if out.is_file():
        raise BothwaysError(f"{out} is a file, not a folder: choose another --out")
    if (out / LOG).exists():
        raise BothwaysError(f"{out} is the folder of a run, which has a report of its own: choose another --out")
    for name in (METRICS, PAGE):
        if (out / name).exists() and not overwrite:
            raise BothwaysError(f"{out} holds a {name} already: choose another --out or --overwrite")
    return out
