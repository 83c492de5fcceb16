"""A real run: 20 minutes of pre-training on Wikipedia, then SST-2, against the same model without pre-training.

BERT-mini is pre-trained (masked tokens and next sentence) on the slice of English Wikipedia in ``../shared/data``,
with a vocabulary trained on the same text. Then 2,000 training examples of SST-2 are fine-tuned on with three seeds,
from the pre-trained weights and from random ones, and the published dev set of 872 is scored. Majority and TF-IDF
with logistic regression stand in the same table.

    python benchmarks/real_run.py --out runs/real

Everything that is finished is kept in ``--out``: the script can be stopped at any time and called again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import statistics
from pathlib import Path

import numpy as np

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
EXAMPLES, SEEDS, EPOCHS, RATE = 2000, (0, 1, 2), 4, 5e-4


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with wikipedia-en-slice and sst2")
    parser.add_argument("--out", type=Path, default=Path("runs/real"))
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--vocab-size", type=int, default=8000)
    args = parser.parse_args()

    base = encoder(args.out, args.data, args.minutes, args.size, args.vocab_size)
    run = json.loads((base / "run.json").read_text())
    print("pre-training:", json.dumps(run["results"]))
    cells = args.out / "cells.jsonl"
    done = [json.loads(line) for line in cells.read_text().splitlines()] if cells.exists() else []
    for cell in [(start, seed) for seed in SEEDS for start in ("pretrained", "random")]:
        if cell not in [(one["start"], one["seed"]) for one in done]:
            done.append(run_cell(*cell, base, args.data))
            with cells.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
            print(done[-1], flush=True)
    report(done, args.data)


def encoder(out: Path, data: Path, minutes: float = 20, size: str = "mini", vocab_size: int = 8000) -> Path:
    """The folder of the pre-trained encoder, which is made if it is not there."""
    import bothways as bw

    base = out / "pretrained"
    if not (base / "model").exists():
        bw.pretrain(
            data / "wikipedia-en-slice" / "train.txt.gz",
            out=base,
            size=size,
            vocab_size=vocab_size,
            minutes=minutes,
            max_length=32,  # short sequences teach positions soonest, and SST-2 is short
            batch_tokens=2048,
            mask_rate=0.3,  # small encoders leave the plateau of word frequencies sooner (Wettig et al. 2023)
            dropout=0.0,  # hardly more than one pass over the text: there is nothing to overfit
        )
    return base


def read(data: Path, split: str) -> list[dict]:
    """A split of SST-2."""
    with gzip.open(data / "sst2" / f"{split}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def training_rows(data: Path) -> list[dict]:
    """The 2,000 examples, the same for every seed."""
    rows = read(data, "train")
    return [rows[place] for place in np.random.default_rng(0).permutation(len(rows))[:EXAMPLES]]


def run_cell(start: str, seed: int, base: Path, data: Path) -> dict:
    """One fine-tuning: the last weights after a fixed number of epochs, scored on the dev set once."""
    import bothways as bw
    from bothways.run.model import Model

    model = bw.load(base)
    if start == "random":
        model = Model.random(model.config, model.tokenizer, seed=seed)
    tuned = bw.finetune(
        "classify",
        base=model,
        train=training_rows(data),
        dev=read(data, "dev"),
        epochs=EPOCHS,
        max_length=32,  # as pre-trained; the longer sentences are read in windows, by both
        truncation="window",
        learning_rate=RATE,
        reads="mean",
        dropout=0.1,  # 2,000 examples are soon learned by heart
        metric=None,
        seed=seed,
    )
    return {"start": start, "seed": seed, "accuracy": tuned.scores["accuracy"], "seconds": tuned.history.seconds}


def report(cells: list[dict], data: Path) -> None:
    """The table."""
    from bothways.learn.baselines import majority, tfidf_logistic

    train, dev = training_rows(data), read(data, "dev")
    truth = np.array([row["label"] for row in dev])
    learned = [row["label"] for row in train]
    linear = tfidf_logistic([row["text"] for row in train], learned, [row["text"] for row in dev])
    print("\n| SST-2 dev, 2,000 training examples | accuracy | seeds |\n|---|---|---|")
    print(f"| majority | {(majority(learned, len(dev)) == truth).mean():.3f} | |")
    print(f"| TF-IDF + logistic regression | {(linear == truth).mean():.3f} | |")
    for start in ("random", "pretrained"):
        found = [cell["accuracy"] for cell in cells if cell["start"] == start]
        spread = f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}"
        print(f"| BERT, {start} weights | {spread} | {', '.join(f'{one:.3f}' for one in found)} |")


if __name__ == "__main__":
    main()
