"""Masked-LM pre-training: Bothways against the Trainer of `transformers`, side by side.

Both sides train BERT-mini (4 layers, 256 wide) from the same random weights on blocks of 128 tokens of the same text
with the same masking (15 %, 80/10/10, dynamic), dropout (0.1 on hidden states and on attention), optimizer (AdamW,
fused, the same rates at every step, the same decay), clipping and tokens a step. Each side runs in a process of its
own, the sides in turn, several rounds; the first steps are not counted. What differs is how the work is done: each side
in its default precision, each also in the other one.

    python benchmarks/pretrain.py                       # speed: rounds of 12 counted steps
    python benchmarks/pretrain.py --curves --steps 200  # the loss curves, one run a side

Needs the test extra. The corpus is the documentation of this Python, or `--text FILE`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

LENGTH, BATCH, RATE, DECAY, WARMUP = 128, 32, 5e-4, 0.01, 0.1
SIDES = ("bothways", "bothways float32", "transformers", "transformers bf16")


def main() -> None:
    """Runs all sides, or one of them."""
    args = parse()
    if args.side:
        print(json.dumps(run_side(args)))
        return
    with tempfile.TemporaryDirectory() as folder:
        args.corpus = args.corpus or prepare_corpus(args.text, Path(folder), args.vocab_size)
        args.start = f"{folder}/start"
        starting_weights(args)
        sides = SIDES if not args.curves else ("bothways", "transformers")
        rounds = 1 if args.curves else args.rounds
        results: dict[str, list[dict]] = {side: [] for side in sides}
        for number in range(rounds):
            for side in sides:
                results[side].append(in_process(side, args))
                speed = results[side][-1]["tokens_per_second"]
                print(f"round {number + 1}, {side}: {speed:,.0f} tokens/s", file=sys.stderr, flush=True)
    report(results, args)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", help="raw text (default: the documentation of this Python)")
    parser.add_argument("--corpus", help="a prepared corpus instead")
    parser.add_argument("--vocab-size", type=int, default=30_522)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--steps", type=int, default=12, help="counted steps a run")
    parser.add_argument("--warm", type=int, default=3, help="steps before those")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--curves", action="store_true")
    parser.add_argument("--json", help="write everything here")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare_corpus(text: str | None, folder: Path, vocab_size: int) -> str:
    """A prepared corpus in a folder."""
    import bothways as bw
    from bothways.text.prepare import prepare
    from bothways.text.pydocs import python_documentation

    source = text or list(python_documentation())
    tokenizer = bw.train_tokenizer(source, size=vocab_size, out=folder / "tokenizer")
    prepare(source, tokenizer, folder / "corpus")
    return str(folder / "corpus")


def starting_weights(args: argparse.Namespace) -> None:
    """The same random weights for both sides, as a folder that both open."""
    import bothways as bw

    settings = {"dropout": args.dropout, "attention.dropout": args.dropout, "embeddings.dropout": args.dropout}
    bw.new("bert", args.size, vocab=Path(args.corpus) / "tokenizer", heads=("mlm",), settings=settings).save(args.start)


def in_process(side: str, args: argparse.Namespace) -> dict:
    """One run of one side."""
    command = [sys.executable, __file__, "--side", side, "--corpus", str(args.corpus), "--size", args.size]
    command += ["--steps", str(args.steps), "--warm", str(args.warm), "--start", args.start]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_side(args: argparse.Namespace) -> dict:
    """Trains one side and returns its speed and losses."""
    if args.side.startswith("bothways"):
        return run_bothways(args, "float32" if args.side.endswith("float32") else "auto")
    return run_transformers(args, bf16=args.side.endswith("bf16"))


def summarise(clock: list[float], losses: list[float], warm: int, side: str) -> dict:
    """Speed over the counted steps, from the times at which steps ended."""
    seconds = [b - a for a, b in zip(clock[warm - 1 :], clock[warm:], strict=False)]
    speed = LENGTH * BATCH / statistics.median(seconds)
    return {"side": side, "tokens_per_second": speed, "seconds": seconds, "losses": losses}


def run_bothways(args: argparse.Namespace, precision: str) -> dict:
    """Our side."""
    import tempfile

    import bothways as bw
    from bothways.progress import silent

    silent()
    clock: list[float] = []
    losses: list[float] = []

    def watch(event: Any) -> None:
        clock.append(time.perf_counter())
        losses.append(event.values["loss.mlm"])

    with tempfile.TemporaryDirectory() as out:
        bw.pretrain(
            args.corpus,
            out=out,
            base=args.start,
            objective="mlm",
            steps=args.warm + args.steps,
            max_length=LENGTH,
            batch_tokens=LENGTH * BATCH,
            optimizer="adamw",
            learning_rate=RATE,
            weight_decay=DECAY,
            warmup=WARMUP,
            precision=precision,
            evaluate_every=10**9,
            save_minutes=10**6,
            callbacks=[watch],
        )
    return summarise(clock, losses, args.warm, args.side)


def run_transformers(args: argparse.Namespace, *, bf16: bool) -> dict:
    """The usual way: Trainer, its masking collator, grouped text."""
    import torch
    from transformers import (
        AutoTokenizer,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from bothways.learn.objectives.blocks import Blocks
    from bothways.learn.optimizer import rate
    from bothways.run.machine import apply_thread_limit
    from bothways.text.shards import Corpus

    apply_thread_limit()
    corpus = Corpus.open(args.corpus)
    blocks = Blocks(corpus, LENGTH, corpus.tokenizer)
    count = min(len(blocks), (args.warm + args.steps) * BATCH)
    data = [{"input_ids": blocks.sequence(0, n)[0].tolist(), "attention_mask": [1] * LENGTH} for n in range(count)]
    tokenizer = AutoTokenizer.from_pretrained(corpus.folder / "tokenizer")
    model = BertForMaskedLM.from_pretrained(args.start)
    steps = args.warm + args.steps

    clock: list[float] = []

    class Watch(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            clock.append(time.perf_counter())

    class SameRates(Trainer):
        """The Trainer's own schedule has a rate of 0 in the first step; a step more or less shows in short curves."""

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            rates = partial(rate, steps=steps, warmup=round(WARMUP * steps))
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, rates)
            return self.lr_scheduler

    with tempfile.TemporaryDirectory() as out:
        settings = TrainingArguments(
            out,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            weight_decay=DECAY,
            adam_epsilon=1e-6,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            bf16=bf16,
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        trainer = SameRates(model, settings, train_dataset=data, data_collator=collator, callbacks=[Watch()])
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return summarise(clock, losses, args.warm, args.side)


def report(results: dict[str, list[dict]], args: argparse.Namespace) -> None:
    """Prints the table, or the curves, and keeps the figures if asked."""
    if args.json:
        Path(args.json).write_text(json.dumps(results) + "\n")
    median = {side: statistics.median(run["tokens_per_second"] for run in runs) for side, runs in results.items()}
    print(f"| side | tokens/s (median of {len(next(iter(results.values())))} runs) | of transformers' default |")
    print("|---|---|---|")
    for side, speed in median.items():
        print(f"| {side} | {speed:,.0f} | {speed / median['transformers']:.2f}× |")
    if args.curves:
        print("\n| steps | " + " | ".join(results) + " |\n|" + "---|" * (len(results) + 1))
        total = args.warm + args.steps
        for first in range(0, total, max(1, total // 10)):
            last = min(total, first + max(1, total // 10))
            means = [statistics.mean(runs[0]["losses"][first:last]) for runs in results.values()]
            print(f"| {first + 1}–{last} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
