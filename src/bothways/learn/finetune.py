"""Fine-tuning: from an encoder and labelled data to a model that does a job, and measuring it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bothways.errors import BothwaysError, closest
from bothways.learn import loop
from bothways.learn.checkpoint import Checkpoint
from bothways.learn.objectives.protocol import Together
from bothways.learn.protocol import Callback, Evaluation
from bothways.learn.runs import as_typed, check_out, write_run
from bothways.learn.settings import LoopSettings
from bothways.learn.stream import Stream
from bothways.learn.tasks import classify
from bothways.learn.tasks.classify import LabelledTexts
from bothways.model.families import family
from bothways.model.parts.stack import recompute_layers
from bothways.progress import say
from bothways.run.model import Model, load
from bothways.text.columns import infer_columns, read_examples
from bothways.text.rows import read_rows

TASKS = ("classify",)
_DEV_SHARE, _DEV_MOST = 0.1, 2000


@dataclass(frozen=True)
class Finetuned:
    """What came of fine-tuning.

    Attributes:
        model: The encoder with its new head; saved in ``out/model`` if a folder was given.
        history: What was logged.
        scores: Of the best weights on the dev set: accuracy, macro-F1, MCC, per class, confusion matrix.
        dev: Where the dev set came from.
        out: The folder of the run, or None.
    """

    model: Model
    history: loop.History
    scores: dict[str, Any]
    dev: str
    out: Path | None


def finetune(
    task: str,
    *,
    base: str | Path | Model,
    train: Any,
    dev: Any = None,
    out: str | Path | None = None,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    epochs: int = 3,
    steps: int | None = None,
    batch_size: int = 32,
    micro_tokens: int = 16_384,
    max_length: int = 128,
    truncation: str = "warn",
    learning_rate: float | None = None,
    weight_decay: float = 0.01,
    warmup: float = 0.1,
    reads: str | None = None,
    hidden: str | None = None,
    freeze: bool = False,
    dropout: float | None = None,
    gradient_checkpointing: bool = False,
    metric: str | None = "macro_f1",
    evaluate_every: float | None = None,
    patience: int | None = None,
    seed: int = 0,
    precision: str = "auto",
    device: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
    tensorboard: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Finetuned:
    """Fine-tunes an encoder on labelled data.

    Args:
        task: ``classify``: texts, or pairs of texts, into classes.
        base: A model, its folder, or a hub id. It is not changed.
        train: Labelled rows: CSV, TSV, JSONL or Parquet files, frames, lists of dictionaries, data sets, iterators.
        dev: The same, to choose the best weights by; None holds out a tenth of `train`, stratified and seeded.
        out: The folder of the run; None keeps everything in memory.
        text: The column of the text; None infers it.
        text_pair: The column of the second text, for pairs.
        label: The column of the class; None infers it.
        epochs: Passes over the training data.
        steps: Optimizer steps, instead of epochs.
        batch_size: Sequences in an optimizer step.
        micro_tokens: Tokens in one forward pass; larger steps are accumulated exactly.
        max_length: The most tokens in a sequence.
        truncation: What happens to longer texts: ``warn``, ``error``, ``head``, ``head_tail`` or ``window``.
        learning_rate: The highest rate; None takes one that suits the width.
        weight_decay: Of AdamW, on weight matrices.
        warmup: Share of the steps in which the rate rises.
        reads: What the classifier reads: the ``"pooled"`` output, the ``"first"`` token or the ``"mean"`` of all, which
            suits encoders that were pre-trained briefly; None: as the family has it.
        hidden: ``"none"`` for one linear layer, ``"gelu"`` for two with GELU and dropout; None: as the family has it.
        freeze: Whether only the head learns.
        dropout: Overrides the encoder's dropout everywhere.
        gradient_checkpointing: Whether layers are computed twice to hold less in memory.
        metric: What the best weights are chosen by: ``accuracy``, ``macro_f1`` or ``mcc``; None keeps the last.
        evaluate_every: Steps between evaluations, or a share of all steps if below 1; None: once an epoch.
        patience: Evaluations without a better metric after which training stops.
        seed: All randomness follows from it.
        precision: ``"auto"``, ``"float32"`` or ``"bf16"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.
        resume: Whether an unfinished run in `out` goes on.
        overwrite: Whether another run in `out` is thrown away.
        tensorboard: Whether TensorBoard's files are written too.
        callbacks: Called after each step.

    Raises:
        BothwaysError: The data, a setting or the folder does not do; the sentence says which and what to do.
    """
    given = {k: v for k, v in locals().items() if k not in ("callbacks", "train", "dev", "base")}
    sources = {"base": as_typed(base), "train": as_typed(train), "dev": as_typed(dev)}
    _check_task(task)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_out(folder, overwrite=overwrite, resume=resume)
    start = load(base, device="cpu") if isinstance(base, str | Path) else base
    train_data = read_labelled(train, text, text_pair, label)
    names = classify.class_names(train_data)
    train_data, dev_data = _with_dev(train_data, dev, (text, text_pair, label), seed)
    model = _model(start, names, (reads, hidden), dropout, max_length, truncation, seed, device)
    examples = classify.encode(train_data, names, model.tokenizer, model.max_length, truncation)
    training = classify.Classify(model.mark)
    together = Together([training])
    stream = Stream(
        examples,
        training.prepare,
        batch_size=batch_size,
        micro_tokens=micro_tokens,
        epochs=None if steps is not None else epochs,
        seed=seed,
    )
    total = steps or math.ceil(len(examples) * epochs / batch_size)
    settings = LoopSettings(
        learning_rate=learning_rate or suited_rate(model.config.width, freeze),
        steps=total,
        warmup=warmup,
        weight_decay=weight_decay,
        evaluate_every=evaluate_every or max(1, round(total / epochs)),
        metric=metric,
        patience=patience,
        seed=seed,
        precision=precision,
        tensorboard=tensorboard,
    )
    model.encoder.requires_grad_(not freeze)
    recompute_layers(model.encoder, gradient_checkpointing)
    trained = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads})
    evaluation = Evaluation(("accuracy", "macro_f1", "mcc"), lambda: _overall(classify.score(model, dev_data)))
    say(
        f"{len(train_data):,} texts to learn from, {len(dev_data):,} to check on ({dev_data.name}), "
        f"{len(names)} classes: {', '.join(names[:8])}{' ...' if len(names) > 8 else ''}"
    )
    history = loop.train(
        trained,
        together,
        stream,
        settings,
        out=folder,
        evaluate=evaluation,
        callbacks=callbacks,
        title="Fine-tuning",
        identity={
            "task": task,
            "train": train_data.describe(),
            "dev": dev_data.describe(),
            "base": start.name,
            "model": model.config.to_dict(),
            "max_length": max_length,
            "batch_size": batch_size,
            "freeze": freeze,
        },
        resume=resume,
    )
    model.encoder.requires_grad_(True)
    recompute_layers(model.encoder, False)
    scores = classify.score(model, dev_data)
    if folder is not None:
        model.save(folder / "model", overwrite=True)
        write_run(
            folder,
            command=f"finetune {task}",
            settings=given | sources | {"steps": history.steps},
            data={"train": train_data.describe(), "dev": dev_data.describe()},
            seed=seed,
            results=_overall(scores) | {"steps": history.steps, "seconds": history.seconds},
        )
        Checkpoint(folder).discard()
    return Finetuned(model, history, scores, dev_data.name, folder)


def evaluate(
    model: str | Path | Model,
    data: Any,
    *,
    text: str | None = None,
    text_pair: str | None = None,
    label: str | None = None,
    precision: str = "float32",
    device: str | None = None,
) -> dict[str, Any]:
    """Measures a classifier on labelled data.

    Args:
        model: A model or its folder.
        data: Labelled rows, as `finetune` takes them.
        text: The column of the text; None infers it.
        text_pair: The column of the second text, for pairs.
        label: The column of the class; None infers it.
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``.
        device: ``"cpu"``, ``"cuda"`` ...; None takes a GPU if there is one.

    Returns:
        Accuracy, macro-F1, MCC, per-class scores, confusion matrix.

    Raises:
        BothwaysError: The model has no classifier, or the data does not do.
    """
    if not isinstance(model, Model):
        model = load(model, precision=precision, device=device)
    if "classify" not in model.heads:
        model.classify([])  # says which heads there are
    return classify.score(model, read_labelled(data, text, text_pair, label))


def read_labelled(source: Any, text: str | None, text_pair: str | None, label: str | None) -> LabelledTexts:
    """Reads labelled rows into memory.

    Raises:
        BothwaysError: A column is absent, or a row has no text or no label.
    """
    rows = read_rows(source)
    columns = infer_columns(rows, text, text_pair, label)
    examples = list(read_examples(rows, columns))
    pairs = [example.text_pair or "" for example in examples] if columns.text_pair else None
    return LabelledTexts(
        [example.text for example in examples], pairs, [str(example.label) for example in examples], rows.name
    )


def suited_rate(width: int, frozen: bool = False) -> float:
    """A highest learning rate for fine-tuning.

    Devlin et al. 2018 use 2e-5 to 5e-5 at width 768, Turc et al. 2019 up to 3e-4 for the small sizes; a head alone
    bears 1e-3.
    """
    if frozen:
        return 1e-3
    return 3e-5 if width >= 768 else 1e-4 if width >= 384 else 3e-4


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise BothwaysError(f"there is no task {task!r}{closest(task, TASKS)}; there are {', '.join(TASKS)}")


def _with_dev(
    train: LabelledTexts, dev: Any, columns: tuple[str | None, str | None, str | None], seed: int
) -> tuple[LabelledTexts, LabelledTexts]:
    if dev is not None:
        return train, read_labelled(dev, *columns)
    if len(train) < 10:
        raise BothwaysError(f"{train.name} has only {len(train)} examples; give a dev set or more of them")
    return classify.stratified_split(train, min(_DEV_SHARE, _DEV_MOST / len(train)), seed)


def _model(
    start: Model,
    names: tuple[str, ...],
    shape: tuple[str | None, str | None],
    dropout: float | None,
    max_length: int,
    truncation: str,
    seed: int,
    device: str | None,
) -> Model:
    """A copy of the base with a new head of a shape (reads, hidden); a pooler is added where it reads one."""
    reads, hidden = shape
    config = start.config
    if config.longest is not None and max_length > config.longest:
        raise BothwaysError(f"max_length is {max_length}, but {start.name} takes at most {config.longest} tokens")
    if dropout is not None:
        config = family(config.family).with_dropout(config, dropout)
    if hidden not in (None, "none", "gelu"):
        raise BothwaysError(f"the classifier's hidden layer must be 'none' or 'gelu', not {hidden!r}")
    head = family(config.family).head("classify", labels=names, dropout=config.dropout if dropout is None else dropout)
    if reads is not None:
        head = head.derive(reads=reads)
    if hidden is not None:
        head = head.derive(hidden=hidden)
    model = Model.random(config, start.tokenizer, [head], seed=seed, device=device)
    model.encoder.load_state_dict(start.encoder.state_dict(), strict=False)
    model.max_length, model.truncation = max_length, truncation
    return model


def _overall(scores: dict[str, Any]) -> dict[str, float]:
    return {name: scores[name] for name in ("accuracy", "macro_f1", "mcc")}
