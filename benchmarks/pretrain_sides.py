"""Both sides of `pretrain.py`: `bothways.pretrain` and the Trainer of `transformers`, as their users run them."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

RATE, DECAY, WARMUP, MASKED = 5e-4, 0.01, 0.1, 0.15


@dataclass(frozen=True)
class Task:
    """What one process measures.

    Attributes:
        side: ``"bothways"`` or ``"transformers"``.
        precision: ``"float32"`` or ``"bf16"``.
        corpus: A prepared corpus.
        start: The model to begin with, a folder.
        length: Tokens of a block.
        batch: Blocks of a step.
        steps: Counted steps.
        warm: Steps before those.
        device: ``"cpu"`` or ``"cuda"``.
        started: The time when the process was asked for.
    """

    side: str
    precision: str
    corpus: str
    start: str
    length: int
    batch: int
    steps: int
    warm: int
    device: str
    started: float


class Clock:
    """When steps ended, their losses, and the most memory up to the last of them."""

    def __init__(self, device: str) -> None:
        self.ends: list[float] = []
        self.losses: list[float] = []
        self.memory: int | None = None
        self._device = device

    def tick(self) -> None:
        """A step has ended."""
        import torch

        from bothways.run.machine import peak_memory

        self.ends.append(time.time())
        self.memory = torch.cuda.max_memory_allocated() if self._device == "cuda" else peak_memory()

    def summary(self, task: Task) -> dict[str, Any]:
        """Seconds of the counted steps, losses of all, when the first was done, memory."""
        return {
            "seconds": [b - a for a, b in pairwise(self.ends[task.warm - 1 :])],
            "losses": self.losses,
            "first_step": self.ends[0] - task.started,
            "memory": self.memory,
        }


def run(task: Task) -> dict[str, Any]:
    """Trains one side."""
    return run_bothways(task) if task.side == "bothways" else run_transformers(task)


def roofs(device: str) -> dict[str, float]:
    """What large products of matrices reach here, in operations a second."""
    from bothways.run.machine import apply_thread_limit
    from bothways.run.precision import resolve_precision
    from bothways.run.roof import roof

    apply_thread_limit()
    return {name: roof(resolve_precision(name, device)) for name in ("float32", "bf16")}


def run_bothways(task: Task) -> dict[str, Any]:
    """Our side."""
    import bothways as bw
    from bothways.progress import silent

    silent()
    clock = Clock(task.device)

    def watch(event: Any) -> None:
        clock.tick()
        clock.losses.append(event.values["loss.mlm"])

    with tempfile.TemporaryDirectory() as out:
        result = bw.pretrain(
            task.corpus,
            out=out,
            base=task.start,
            objective="mlm",
            steps=task.warm + task.steps,
            max_length=task.length,
            batch_tokens=task.length * task.batch,
            optimizer="adamw",
            learning_rate=RATE,
            weight_decay=DECAY,
            warmup=WARMUP,
            mask_rate=MASKED,
            precision=task.precision,
            device=task.device,
            evaluate_every=10**9,
            save_minutes=10**6,
            callbacks=[watch],
        )
    lines = result.history.training
    return clock.summary(task) | {"waiting": sum(line["waiting"] for line in lines) / len(lines)}


def run_transformers(task: Task) -> dict[str, Any]:
    """The usual way: Trainer, its masking collator, grouped text."""
    import torch
    from transformers import (
        AutoModelForMaskedLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from bothways.learn.optimizer import rate
    from bothways.run.machine import apply_thread_limit

    apply_thread_limit()
    tokenizer = AutoTokenizer.from_pretrained(f"{task.corpus}/tokenizer")
    model = AutoModelForMaskedLM.from_pretrained(task.start)
    steps, clock = task.warm + task.steps, Clock(task.device)

    class Watch(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.tick()

    class SameSteps(Trainer):
        """The same blocks at the same rates in every step, so that short curves can be compared.

        Left alone it shuffles in its own way and begins with a rate of 0.
        """

        def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
            return torch.utils.data.SequentialSampler(data)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = partial(rate, steps=steps, warmup=round(WARMUP * steps))
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rates)
            return self.lr_scheduler

    with tempfile.TemporaryDirectory() as out:
        settings = TrainingArguments(
            out,
            max_steps=steps,
            per_device_train_batch_size=task.batch,
            learning_rate=RATE,
            weight_decay=DECAY,
            adam_epsilon=1e-6,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=task.precision == "bf16",
            use_cpu=task.device == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
        data = grouped(task)
        trainer = SameSteps(model, settings, train_dataset=data, data_collator=collator, callbacks=[Watch()])
        trainer.train()
    clock.losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return clock.summary(task)


def grouped(task: Task) -> list[dict[str, list[int]]]:
    """The blocks that the other side sees, in their order, as a script that groups text leaves them: whole columns."""
    from bothways.learn.objectives.blocks import Blocks
    from bothways.learn.portions import divide
    from bothways.text.order import Order
    from bothways.text.shards import Corpus

    corpus = Corpus.open(task.corpus)
    blocks = Blocks(corpus, task.length, corpus.tokenizer)
    kept, _ = divide(len(blocks))
    _, places = Order(len(kept), 0).take((task.warm + task.steps) * task.batch)
    special = [1, *[0] * (task.length - 2), 1]
    rows = []
    for number in kept[places]:
        ids = blocks.sequence(0, number)[0].tolist()
        if len(ids) == task.length:  # the last block of a corpus is shorter; grouping leaves it out
            columns = {"input_ids": ids, "token_type_ids": [0] * task.length, "attention_mask": [1] * task.length}
            rows.append(columns | {"special_tokens_mask": special})
    return rows
