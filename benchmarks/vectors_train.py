"""Training of sentence vectors: Bothways against the trainer of `sentence-transformers`, side by side.

In-batch negatives on duplicate questions, cosine regression on STS-B, and in-batch negatives in steps of 2,048 pairs,
which neither side holds in one pass. Both sides begin with the same weights, see the same pairs in the same order, and
have the same rates in every step, decay, clipping and dropout. Each side runs in a process of its own, the sides in
turn, several rounds; the first steps are not counted. The last weights of each side are scored on STS-B's dev set by
the same code.

    python benchmarks/vectors_train.py --base all-MiniLM-L6-v2
    python benchmarks/vectors_train.py --base all-MiniLM-L6-v2 --tasks cosine --examples 200 --rounds 1

What is finished is kept in ``--folder``: the script can be stopped at any time and called again. Needs the test extra.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune import SHARED, sampled
from processes import in_process, measured
from vectors_train_sides import Job, run

SIDES = (
    ("bothways", "bf16"),
    ("sentence-transformers", "float32"),
    ("bothways", "float32"),
    ("sentence-transformers", "bf16"),
)
TASKS: dict[str, dict[str, Any]] = {
    "mnrl": {"data": "quora-duplicates/pairs", "name": "duplicates, in-batch negatives", "batch": 64, "examples": 4000},
    "cosine": {"data": "stsb/train", "name": "STS-B, cosine", "batch": 32, "examples": 4000},
    "cached": {
        "data": "quora-duplicates/pairs",
        "name": "duplicates, in-batch negatives",
        "batch": 2048,
        "examples": 8192,
    },
}


@dataclass(frozen=True)
class Cell:
    """One process: a task on a side in a round."""

    base: str
    task: str
    side: str
    precision: str
    round: int
    examples: int
    dev: int
    batch: int
    epochs: int
    rate: float


def main() -> None:
    """Runs what is missing and prints the table."""
    args = parse()
    if args.job:
        print(json.dumps(run(Job(**json.loads(args.job)))))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    results = measured(
        list(wanted(args)),
        args.folder / "results.jsonl",
        lambda kept: Cell(**kept),
        lambda cell: by_process(cell, args.folder, args.data),
        told,
    )
    report(results)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="a model folder, or a hub id")
    parser.add_argument("--tasks", nargs="+", choices=tuple(TASKS), default=list(TASKS))
    parser.add_argument("--examples", type=int, help="pairs to learn from (default: 4,000; 8,192 in the largest steps)")
    parser.add_argument("--batch", type=int, help="pairs of a step (default: the task's)")
    parser.add_argument("--dev", type=int, default=1000, help="at most so many pairs to score by")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rate", type=float, default=2e-5)
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bf16"), default=["float32", "bf16"])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with quora-duplicates and stsb")
    parser.add_argument("--folder", type=Path, default=Path("runs/vectors-train"), help="keeps what is finished")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(args: argparse.Namespace) -> Iterator[Cell]:
    """All cells, round by round, so that what disturbs the machine for a while disturbs every side."""
    for number in range(args.rounds):
        for task in args.tasks:
            examples, batch = args.examples or TASKS[task]["examples"], args.batch or TASKS[task]["batch"]
            for side, precision in SIDES:
                if precision in args.precisions:
                    shape = (examples, args.dev, batch, args.epochs, args.rate)
                    yield Cell(args.base, task, side, precision, number, *shape)


def by_process(cell: Cell, folder: Path, data: Path) -> dict[str, Any]:
    """One cell, by a fresh process."""
    steps = cell.examples * cell.epochs // cell.batch
    job = Job(
        side=cell.side,
        precision=cell.precision,
        loss="cosine" if cell.task == "cosine" else "mnrl",
        cached=cell.task == "cached",
        base=cell.base,
        train=str(sampled(data / f"{TASKS[cell.task]['data']}.jsonl.gz", cell.examples, folder)),
        dev=str(sampled(data / "stsb/dev.jsonl.gz", cell.dev, folder)),
        epochs=cell.epochs,
        batch=cell.batch,
        rate=cell.rate,
        seed=cell.round,
        warm=5 if steps > 20 else 1,
        started=0.0,
    )
    return in_process(cell.side, __file__, "--job", json.dumps(asdict(job) | {"started": time.time()}))


def told(cell: Cell, result: dict[str, Any]) -> str:
    """One cell's speed and score."""
    score = result["scores"]["spearman"]
    return f"{cell.task}, {cell.side} {cell.precision}: {result['speed']:,.1f} pairs/s, Spearman {score:.3f}"


def report(results: dict[Cell, dict[str, Any]]) -> None:
    """The table in Markdown: medians over the rounds; scores with the lowest and highest."""
    titles = ["data, loss", "pairs a step", "side", "pairs/s", "of its default", "of the same precision", "STS-B dev"]
    print(f"| {' | '.join([*titles, 'memory'])} |\n|{'---|' * (len(titles) + 1)}")
    for task, batch in dict.fromkeys((cell.task, cell.batch) for cell in results):
        speeds = {side: median(results, task, batch, side, "speed") for side in SIDES}
        for side in SIDES:
            if speeds[side] is None:
                continue
            others = [speeds["sentence-transformers", "float32"], speeds["sentence-transformers", side[1]]]
            ratios = [f"{speeds[side] / other:.2f}×" if other else "–" for other in others]
            memory = median(results, task, batch, side, "memory")
            scores = sorted(result["scores"]["spearman"] for result in chosen(results, task, batch, side))
            spread = f"{statistics.median(scores):.3f} ({scores[0]:.3f}–{scores[-1]:.3f})"
            cells = [TASKS[task]["name"], f"{batch:,}", ", ".join(side), f"{speeds[side]:,.1f}", *ratios, spread]
            print(f"| {' | '.join([*cells, f'{memory / 2**20:,.0f} MiB'])} |")
    one = next(iter(results))
    rounds = len({cell.round for cell in results})
    print(
        f"\nMedians of {rounds} rounds, each with a seed of its own; {one.epochs} epochs, rate {one.rate:g}. Its "
        "default is sentence-transformers in float32. Memory is the peak of the process."
    )


def chosen(results: dict[Cell, dict[str, Any]], task: str, batch: int, side: tuple[str, str]) -> list[dict[str, Any]]:
    """The results of one line of the table."""
    wanted = (task, batch, side)
    return [one for cell, one in results.items() if (cell.task, cell.batch, (cell.side, cell.precision)) == wanted]


def median(results: dict[Cell, dict[str, Any]], task: str, batch: int, side: tuple[str, str], name: str) -> Any:
    """The median of a figure over the rounds; None where nothing was measured."""
    found = [result[name] for result in chosen(results, task, batch, side)]
    return statistics.median(found) if found else None


if __name__ == "__main__":
    main()
