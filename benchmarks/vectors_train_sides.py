"""Both sides of `vectors_train.py`: `bothways.finetune("embed")` and the trainer of `sentence-transformers`."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune_sides import DECAY, WARMUP, Clock


@dataclass(frozen=True)
class Job:
    """What one process measures.

    Attributes:
        side: ``"bothways"`` or ``"sentence-transformers"``.
        precision: ``"float32"`` or ``"bf16"``.
        loss: As `bothways` calls it.
        cached: Whether a step is too large for one pass.
        base: The encoder, a folder.
        train: Pairs, JSON lines.
        dev: Scored pairs, JSON lines.
        epochs: Passes over the pairs.
        batch: Pairs of a step.
        rate: The highest learning rate.
        seed: Of the order and of dropout.
        warm: Steps before the clock is read.
        started: The time when the process was asked for.
    """

    side: str
    precision: str
    loss: str
    cached: bool
    base: str
    train: str
    dev: str
    epochs: int
    batch: int
    rate: float
    seed: int
    warm: int
    started: float


def run(job: Job) -> dict[str, Any]:
    """Trains one side and scores its last weights, both sides by the same code in float32."""
    return (run_bothways if job.side == "bothways" else run_sentence_transformers)(job)


def score(job: Job, model: str) -> dict[str, float]:
    """Spearman's correlation on the dev pairs."""
    import bothways as bw
    from bothways.learn.tasks.embed import Embed

    task = Embed()
    return {"spearman": task.examine(bw.load(model, engine="reference"), task.read(job.dev)).scores["spearman"]}


def run_bothways(job: Job) -> dict[str, Any]:
    """Our side."""
    import bothways as bw
    from bothways.progress import silent

    silent()
    clock = Clock()

    def watch(event: Any) -> None:
        clock.tick()
        clock.tokens.append(job.batch)

    with tempfile.TemporaryDirectory() as out:
        bw.finetune(
            "embed",
            base=job.base,
            train=job.train,
            dev=job.dev,
            loss=job.loss,
            score_range=(0.0, 5.0),
            epochs=job.epochs,
            batch_size=job.batch,
            micro_tokens=4096 if job.cached else 16_384,
            learning_rate=job.rate,
            weight_decay=DECAY,
            warmup=WARMUP,
            seed=job.seed,
            precision=job.precision,
            metric=None,
            evaluate_every=10**9,
            report=False,
            out=out,
            overwrite=True,
            callbacks=[watch],
        )
        return clock.summary(job) | {"scores": score(job, str(Path(out) / "model"))}  # type: ignore[arg-type]


def run_sentence_transformers(job: Job) -> dict[str, Any]:
    """The usual way: its trainer, its losses, its collator, which pads each column to its longest text."""
    import torch
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    from bothways.learn.optimizer import rate
    from bothways.run.machine import apply_thread_limit
    from bothways.text.order import Order

    apply_thread_limit()
    rows = [json.loads(line) for line in Path(job.train).read_text().splitlines()]
    _, places = Order(len(rows), job.seed).take(len(rows) * job.epochs)
    chosen = [rows[place] for place in places]
    columns: dict[str, list[Any]] = {name: [row[name] for row in chosen] for name in ("text_a", "text_b")}
    if job.loss == "cosine":
        columns["score"] = [row["score"] / 5 for row in chosen]
    steps, clock = math.ceil(len(chosen) / job.batch), Clock()
    model = SentenceTransformer(job.base, device="cpu")
    made = {
        ("cosine", False): losses.CosineSimilarityLoss,
        ("mnrl", False): losses.MultipleNegativesRankingLoss,
        ("mnrl", True): losses.CachedMultipleNegativesRankingLoss,
    }

    class Watch(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.tick()
            clock.tokens.append(job.batch)

    class SameSteps(SentenceTransformerTrainer):
        """The same rows at the same rates in every step; left alone it shuffles in its own way, and begins with 0."""

        def get_batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **_: object) -> Any:
            return DefaultBatchSampler(
                torch.utils.data.SequentialSampler(dataset), batch_size=batch_size, drop_last=drop_last
            )

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = partial(rate, steps=steps, warmup=round(WARMUP * steps))
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rates)
            return self.lr_scheduler

    with tempfile.TemporaryDirectory() as out:
        arguments = Arguments(
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
        SameSteps(
            model,
            arguments,
            train_dataset=Dataset.from_dict(columns),
            loss=made[job.loss, job.cached](model),
            callbacks=[Watch()],
        ).train()
        saved = str(Path(out) / "model")
        model.save(saved)
        return clock.summary(job) | {"scores": score(job, saved)}  # type: ignore[arg-type]
