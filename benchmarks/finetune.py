"""Fine-tuning: Bothways against the Trainer of `transformers`, side by side, on four tasks.

SST-2, STS-B and CoNLL-2003 (2,000 examples each) and SQuAD (500 questions). Both sides begin with the same weights (an
encoder, such as all-MiniLM-L6-v2, and the same random head), see the same rows in the same order for the same number of
epochs, and have the same rates in every step, decay, clipping and dropout; the Trainer pads to the longest text of a
batch. Each side runs in a process of its own, the sides in turn, several rounds; the first steps are not counted. The
last weights of each side are scored on the dev set by the same code.

    python benchmarks/finetune.py --base all-MiniLM-L6-v2
    python benchmarks/finetune.py --base all-MiniLM-L6-v2 --tasks classify --examples 50 --rounds 1

What is finished is kept in ``--folder``: the script can be stopped at any time and called again. Needs the test extra.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune_sides import Job, make_start, run
from processes import in_process, measured

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIDES = (("bothways", "bf16"), ("transformers", "float32"), ("bothways", "float32"), ("transformers", "bf16"))
TASKS: dict[str, dict[str, Any]] = {
    "classify": {"data": "sst2/train", "dev": "sst2/dev", "name": "SST-2", "batch": 32, "length": 128, "own": {}},
    "regress": {"data": "stsb/train", "dev": "stsb/dev", "name": "STS-B", "batch": 32, "length": 128, "own": {}},
    "tag": {
        "data": "conll2003/train",
        "dev": "conll2003/dev",
        "name": "CoNLL-2003",
        "batch": 32,
        "length": 128,
        "own": {"crf": False},
    },
    "answer": {
        "data": "squad1/train_head",
        "dev": "squad1/dev",
        "name": "SQuAD",
        "batch": 16,
        "length": 384,
        "own": {"stride": 128},
    },
}
EXAMPLES = {"answer": 500}
"""Rows to learn from, where they are not 2,000."""


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
    epochs: int
    rate: float
    dropout: float


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
    parser.add_argument("--examples", type=int, help="rows to learn from (default: 2,000; 500 questions)")
    parser.add_argument("--dev", type=int, default=1000, help="at most so many rows to score by")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=3, help="each with a seed of its own")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bf16"), default=["float32", "bf16"])
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with sst2, stsb, conll2003 and squad1")
    parser.add_argument("--folder", type=Path, default=Path("runs/finetune"), help="keeps what is finished")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(args: argparse.Namespace) -> Iterator[Cell]:
    """All cells, round by round, so that what disturbs the machine for a while disturbs every side."""
    for number in range(args.rounds):
        for task in args.tasks:
            examples = args.examples or EXAMPLES.get(task, 2000)
            for side, precision in SIDES:
                if precision in args.precisions:
                    shape = (examples, args.dev, args.epochs, args.rate, args.dropout)
                    yield Cell(args.base, task, side, precision, number, *shape)


def by_process(cell: Cell, folder: Path, data: Path) -> dict[str, Any]:
    """One cell, by a fresh process."""
    about = TASKS[cell.task]
    start = folder / f"{cell.task}-{cell.examples}-{cell.dropout:g}-{cell.round}"
    job = Job(
        side=cell.side,
        precision=cell.precision,
        task=cell.task,
        base=cell.base,
        start=str(start),
        train=str(sampled(data / f"{about['data']}.jsonl.gz", cell.examples, folder)),
        dev=str(sampled(data / f"{about['dev']}.jsonl.gz", cell.dev, folder)),
        own=about["own"],
        epochs=cell.epochs,
        batch=about["batch"],
        rate=cell.rate,
        length=about["length"],
        dropout=cell.dropout,
        seed=cell.round,
        warm=1 if cell.examples < 500 else 5,
        started=0.0,
    )
    if not start.exists():
        make_start(job)
    return in_process(cell.side, __file__, "--job", json.dumps(asdict(job) | {"started": time.time()}))


def told(cell: Cell, result: dict[str, Any]) -> str:
    """One cell's speed and scores."""
    scores = ", ".join(f"{name} {value:.3f}" for name, value in result["scores"].items())
    return f"{cell.task}, {cell.side} {cell.precision}: {result['speed']:,.0f} tokens/s, {scores}"


def sampled(source: Path, most: int, folder: Path) -> Path:
    """So many rows of a data set, drawn once; all where there are no more."""
    from bothways.chance import generator

    place = folder / f"{source.parent.name}-{source.name.split('.')[0]}-{most}.jsonl"
    if not place.exists():
        with gzip.open(source, "rt", encoding="utf-8") as file:
            lines = file.readlines()
        kept = sorted(generator("benchmark", 0).permutation(len(lines))[:most])
        part = place.with_suffix(f".{os.getpid()}")
        part.write_text("".join(lines[number] for number in kept), encoding="utf-8")
        part.rename(place)  # whole or not there, whoever else draws the same
    return place


# -- the report


def report(results: dict[Cell, dict[str, Any]]) -> None:
    """The table in Markdown: medians over the rounds; scores with the lowest and highest."""
    titles = ["data", "side", "tokens/s", "of its default", "of the same precision", "dev score", "trained after"]
    print(f"| {' | '.join([*titles, 'memory'])} |\n|{'---|' * (len(titles) + 1)}")
    for task in dict.fromkeys(cell.task for cell in results):
        speeds = {side: median(results, task, side, "speed") for side in SIDES}
        for side in SIDES:
            if speeds[side] is None:
                continue
            others = [speeds["transformers", "float32"], speeds["transformers", side[1]]]
            ratios = [f"{speeds[side] / other:.2f}×" if other else "–" for other in others]
            memory, trained = (median(results, task, side, name) for name in ("memory", "trained"))
            cells = [TASKS[task]["name"], ", ".join(side), f"{speeds[side]:,.0f}", *ratios, spread(results, task, side)]
            print(f"| {' | '.join([*cells, f'{trained:,.0f} s', f'{memory / 2**20:,.0f} MiB'])} |")
    one = next(iter(results))
    rounds = len({cell.round for cell in results})
    print(
        f"\nMedians of {rounds} rounds, each with a seed of its own; {one.epochs} epochs, rate {one.rate:g}, dropout "
        f"{one.dropout:g}. Tokens are real ones, without padding. Its default is transformers in float32. Trained "
        "after: from the start of the process to the end of its last step. Memory is the peak of the process."
    )


def median(results: dict[Cell, dict[str, Any]], task: str, side: tuple[str, str], name: str) -> Any:
    """The median of a figure over the rounds; None where nothing was measured."""
    found = [
        result[name] for cell, result in results.items() if (cell.task, (cell.side, cell.precision)) == (task, side)
    ]
    return statistics.median(found) if found else None


def spread(results: dict[Cell, dict[str, Any]], task: str, side: tuple[str, str]) -> str:
    """The task's first metric over the rounds: the median, and the lowest and highest."""
    mine = [result for cell, result in results.items() if (cell.task, (cell.side, cell.precision)) == (task, side)]
    name = next(iter(mine[0]["scores"]))
    values = sorted(result["scores"][name] for result in mine)
    return f"{name} {statistics.median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})"


if __name__ == "__main__":
    main()
