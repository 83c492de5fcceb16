"""Both sides of `finetune.py`: `bothways.finetune` and the Trainer of `transformers`, as their users run them."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

DECAY, WARMUP = 0.01, 0.1


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        side: ``"bothways"`` or ``"transformers"``.
        precision: ``"float32"`` or ``"bf16"``.
        task: As `bothways.finetune` calls it.
        base: The encoder, a folder.
        start: The encoder with its new head, before training: a folder that both sides open.
        train: Labelled rows, JSON lines.
        dev: The same, to score by.
        own: Settings of the task.
        epochs: Passes over the rows.
        batch: Rows of a step.
        rate: The highest learning rate.
        length: The most tokens of a sequence.
        dropout: Everywhere.
        seed: Of the order and of dropout.
        warm: Steps before the clock is read.
        started: The time when the process was asked for.
    """

    side: str
    precision: str
    task: str
    base: str
    start: str
    train: str
    dev: str
    own: dict[str, Any]
    epochs: int
    batch: int
    rate: float
    length: int
    dropout: float
    seed: int
    warm: int
    started: float


class Clock:
    """When steps ended, by the clock and in processor time, and how many real tokens each had."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.worked: list[float] = []
        self.tokens: list[int] = []

    def tick(self) -> None:
        """A step has ended."""
        self.ends.append(time.time())
        self.worked.append(time.process_time())

    def summary(self, job: Job) -> dict[str, Any]:
        """Tokens a second between the first steps and the last (and of a processor's), steps, tokens, end, memory."""
        from bothways.run.machine import peak_memory

        counted = sum(self.tokens[job.warm : -1])  # the end of the last step is told after the last evaluation
        seconds = self.ends[-2] - self.ends[job.warm - 1]
        return {
            "speed": counted / seconds,
            "processor_speed": counted / (self.worked[-2] - self.worked[job.warm - 1]),
            "tokens": sum(self.tokens),
            "steps": len(self.ends),
            "trained": self.ends[-2] - job.started,
            "memory": peak_memory(),
        }


def run(job: Job) -> dict[str, Any]:
    """Trains one side and scores its last weights, both sides by the same code in float32."""
    return (run_bothways if job.side == "bothways" else run_transformers)(job)


def settings(job: Job) -> dict[str, Any]:
    """What both sides are told, as `bothways.finetune` calls it."""
    return {
        "base": job.base,
        "train": job.train,
        "dev": read_rows(job.dev)[:100],  # the score comes later, from the same code for both sides
        "batch_size": job.batch,
        "max_length": job.length,
        "learning_rate": job.rate,
        "head_rate": 1.0,  # as the others have it
        "weight_decay": DECAY,
        "warmup": WARMUP,
        "dropout": job.dropout,
        "seed": job.seed,
        "metric": None,
        "evaluate_every": 10**9,
        "report": False,
        **job.own,
    }


def run_bothways(job: Job) -> dict[str, Any]:
    """Our side."""
    import bothways as bw
    from bothways.progress import silent

    silent()
    clock = Clock()

    def watch(event: Any) -> None:
        clock.tick()
        clock.tokens.append(event.taken.tokens)

    with tempfile.TemporaryDirectory() as out:
        given = settings(job) | {"epochs": job.epochs, "precision": job.precision, "out": out, "overwrite": True}
        bw.finetune(job.task, **given, callbacks=[watch])
        return clock.summary(job) | {"scores": score(job, Path(out) / "model")}


def read_rows(path: str) -> list[dict[str, Any]]:
    """The rows of a file."""
    with Path(path).open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def score(job: Job, model: Path) -> dict[str, float]:
    """The task's metrics on the dev set."""
    import bothways as bw
    from bothways.learn.tasks import task_kind

    found = bw.evaluate(model, job.dev)
    return {name: found[name] for name in task_kind(job.task).metrics}


def make_start(job: Job) -> None:
    """The model that both sides begin with: ours after a step whose rate is nothing."""
    import bothways as bw

    given = settings(job) | {"learning_rate": 1e-30, "weight_decay": 0.0, "precision": "float32"}
    with tempfile.TemporaryDirectory() as out:
        bw.finetune(job.task, **given, steps=1, out=out, overwrite=True)
        part = Path(f"{job.start}.{time.monotonic_ns()}")
        shutil.copytree(Path(out) / "model", part)
        part.rename(job.start)  # a start is whole or not there


def run_transformers(job: Job) -> dict[str, Any]:
    """The usual way: Trainer, its collators (which pad to the longest of a batch), its tokenizer."""
    import torch
    from transformers import AutoTokenizer, Trainer, TrainerCallback, TrainingArguments

    from bothways.learn.optimizer import rate
    from bothways.run.machine import apply_thread_limit
    from bothways.text.order import Order

    apply_thread_limit()
    tokenizer = AutoTokenizer.from_pretrained(job.start)
    rows = read_rows(job.train)
    features = _FEATURES[job.task](rows, tokenizer, job)
    model, collator = _model(job, tokenizer)
    steps, clock = math.ceil(len(features) * job.epochs / job.batch), Clock()
    _, places = Order(len(features), job.seed).take(len(features) * job.epochs)
    data = [features[place] for place in places]

    class Watch(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.tick()

    class SameSteps(Trainer):
        """The same rows at the same rates in every step; left alone it shuffles in its own way, and begins with 0."""

        def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(data)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = partial(rate, steps=steps, warmup=round(WARMUP * steps))
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rates)
            return self.lr_scheduler

    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            out,
            max_steps=steps,
            per_device_train_batch_size=job.batch,
            learning_rate=job.rate,
            weight_decay=DECAY,
            adam_epsilon=1e-6,
            max_grad_norm=1.0,
            bf16=job.precision == "bf16",
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=job.seed,
        )
        SameSteps(model, arguments, train_dataset=data, data_collator=collator, callbacks=[Watch()]).train()
        lengths = [len(one["input_ids"]) for one in data]
        clock.tokens = [sum(lengths[first : first + job.batch]) for first in range(0, len(lengths), job.batch)]
        result = clock.summary(job)
        trained = Path(out) / "trained"
        shutil.copytree(job.start, trained)
        model.save_pretrained(Path(out) / "saved")
        shutil.copy(Path(out) / "saved" / "model.safetensors", trained / "model.safetensors")
        return result | {"scores": score(job, trained)}


def _model(job: Job, tokenizer: Any) -> tuple[Any, Any]:
    """The model with the start's weights, and what makes batches."""
    import transformers as hf

    kinds = {
        "classify": (hf.AutoModelForSequenceClassification, hf.DataCollatorWithPadding(tokenizer)),
        "pairs": (hf.AutoModelForSequenceClassification, hf.DataCollatorWithPadding(tokenizer)),
        "regress": (hf.AutoModelForSequenceClassification, hf.DataCollatorWithPadding(tokenizer)),
        "tag": (hf.AutoModelForTokenClassification, hf.DataCollatorForTokenClassification(tokenizer)),
        "answer": (hf.AutoModelForQuestionAnswering, hf.DataCollatorWithPadding(tokenizer)),
    }
    kind, collator = kinds[job.task]
    model = kind.from_pretrained(job.start)
    rates = {name: value for name, value in vars(model.config).items() if name.endswith("dropout_prob")}
    assert all(value == job.dropout for value in rates.values()), rates
    return model, collator


# -- from rows to what the models of `transformers` read, as their scripts do it


def _classes(rows: list[dict[str, Any]], tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    from transformers import AutoConfig

    numbers = {str(name): number for name, number in AutoConfig.from_pretrained(job.start).label2id.items()}
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=job.length)
    return _listed(encoded, labels=[numbers[str(row["label"])] for row in rows])


def _scores(rows: list[dict[str, Any]], tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    texts = [[row[name] for row in rows] for name in ("text_a", "text_b")]
    encoded = tokenizer(*texts, truncation=True, max_length=job.length)
    return _listed(encoded, labels=[float(row["score"]) for row in rows])


def _pairs(rows: list[dict[str, Any]], tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    from transformers import AutoConfig

    numbers = {str(name): number for name, number in AutoConfig.from_pretrained(job.start).label2id.items()}
    texts = [[row[name] for row in rows] for name in ("text_a", "text_b")]
    encoded = tokenizer(*texts, truncation=True, max_length=job.length)
    return _listed(encoded, labels=[numbers[str(row["label"])] for row in rows])


def _tags(rows: list[dict[str, Any]], tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    """A word's first token has its tag, all others none."""
    from transformers import AutoConfig

    numbers = AutoConfig.from_pretrained(job.start).label2id
    words = [row["tokens"] for row in rows]
    encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=job.length)
    labels = []
    for place, row in enumerate(rows):
        of_token = encoded.word_ids(place)
        first = [word is not None and word != before for word, before in zip(of_token, [None, *of_token], strict=False)]
        labels.append([numbers[row["tags"][word]] if new else -100 for word, new in zip(of_token, first, strict=True)])
    return _listed(encoded, labels=labels)


def _answers(rows: list[dict[str, Any]], tokenizer: Any, job: Job) -> list[dict[str, Any]]:
    """Windows over the context; one that does not hold the whole answer points at the first token.

    What `transformers` calls stride is how much two windows share; Bothways means how far apart they begin, as BERT's
    own code did.
    """
    found = []
    for row in rows:
        room = job.length - len(tokenizer(row["question"], row["context"][:0])["input_ids"])
        encoded = tokenizer(
            row["question"],
            row["context"],
            truncation="only_second",
            max_length=job.length,
            stride=room - job.own["stride"],
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        first = row["answers"]["answer_start"][0]
        last = first + len(row["answers"]["text"][0])
        starts, ends = [], []
        for place, offsets in enumerate(encoded["offset_mapping"]):
            inside = [token for token, of in enumerate(encoded.sequence_ids(place)) if of == 1]
            held = offsets[inside[0]][0] <= first and last <= offsets[inside[-1]][1]
            starts.append(max(token for token in inside if offsets[token][0] <= first) if held else 0)
            ends.append(min(token for token in inside if offsets[token][1] >= last) if held else 0)
        found += _listed(encoded, start_positions=starts, end_positions=ends)
    return found


def _listed(encoded: Any, **labels: list[Any]) -> list[dict[str, Any]]:
    columns = {name: encoded[name] for name in ("input_ids", "token_type_ids", "attention_mask")} | labels
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


_FEATURES = {"classify": _classes, "pairs": _pairs, "regress": _scores, "tag": _tags, "answer": _answers}
