"""What training does to vectors: a raw encoder on STS-B, before and after each objective, and beside a cross-encoder.

The field's claims, measured: the mean of the tokens beats the first one, raw vectors are poor at similarity, each
objective makes them better, and a cross-encoder is better still at a cost that grows with the number of pairs
(Reimers and Gurevych 2019). Softmax over entailment is learned on SICK, the cosine on STS-B, triplets and in-batch
negatives on duplicate questions, SimCSE and TSDAE on the first text of each pair alone. Triplets need texts that do not
belong: the encoder itself mines them (`bothways.use.mine`).

    python benchmarks/vectors_quality.py
    python benchmarks/vectors_quality.py --base my-bert --cells raw cosine --examples 500 --steps 20

The raw encoder is the one that `real_run.py` makes of Wikipedia, which is made now if it is not there.

What is finished is kept in ``--folder``: the script can be stopped at any time and called again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune import SHARED, sampled
from processes import in_process, measured
from real_run import encoder

CELLS = ("raw", "softmax", "cosine", "cosent", "mnrl", "triplet", "simcse", "tsdae", "cross")
DATA = {
    "softmax": "sick/train",
    "cosine": "stsb/train",
    "cosent": "stsb/train",
    "cross": "stsb/train",
    "mnrl": "quora-duplicates/pairs",
    "triplet": "quora-duplicates/pairs",
    "simcse": "quora-duplicates/pairs",
    "tsdae": "quora-duplicates/pairs",
}
NAMES = {
    "raw": "before training",
    "softmax": "softmax, SICK",
    "cosine": "cosine, STS-B",
    "cosent": "CoSENT, STS-B",
    "mnrl": "in-batch negatives, Quora",
    "triplet": "triplets, Quora",
    "simcse": "SimCSE, texts of Quora",
    "tsdae": "TSDAE, texts of Quora",
    "cross": "cross-encoder, STS-B",
}
POOLINGS = ("cls", "mean", "max")


@dataclass(frozen=True)
class Cell:
    """One process: what is learned, and how tokens become a vector."""

    base: str
    what: str
    pooling: str
    seed: int
    examples: int | None
    steps: int | None
    epochs: int
    dev: int


def main() -> None:
    """Runs what is missing and prints the tables."""
    args = parse()
    if args.job:
        job = json.loads(args.job)
        print(json.dumps(run(Cell(**job["cell"]), Path(job["folder"]), Path(job["data"]))))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    args.base = args.base or str(encoder(Path("runs/real"), args.data))
    results = measured(
        list(wanted(args)),
        args.folder / "results.jsonl",
        lambda kept: Cell(**kept),
        lambda cell: by_process(cell, args),
        lambda cell, found: f"{NAMES[cell.what]}, {cell.pooling}: Spearman {found['spearman']:.3f}",
    )
    report(results)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="another raw encoder: a model folder, or a hub id")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS))
    parser.add_argument("--examples", type=int, help="at most so many rows to learn from (default: all)")
    parser.add_argument("--steps", type=int, help="optimizer steps instead of epochs")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--dev", type=int, default=1379, help="at most so many pairs of STS-B's test set")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with stsb, sick and quora-duplicates")
    parser.add_argument("--folder", type=Path, default=Path("runs/vectors-quality"), help="keeps what is finished")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    return parser.parse_args()


def wanted(args: argparse.Namespace) -> Iterator[Cell]:
    """The raw encoder with each pooling; each objective with the mean, and in-batch negatives with each."""
    for seed in range(args.seeds):
        for what in args.cells:
            for pooling in POOLINGS if what == "raw" or what == "mnrl" else ("mean",):
                yield Cell(args.base, what, pooling, seed, args.examples, args.steps, args.epochs, args.dev)


def by_process(cell: Cell, args: argparse.Namespace) -> dict[str, Any]:
    """One cell, by a fresh process."""
    job = {"cell": asdict(cell), "folder": str(args.folder), "data": str(args.data)}
    return in_process(cell.what, __file__, "--job", json.dumps(job))


def run(cell: Cell, folder: Path, data: Path) -> dict[str, Any]:
    """Trains, and scores on STS-B's test set."""
    import bothways as bw
    from bothways.learn.tasks.embed import Embed
    from bothways.progress import silent

    silent()
    task = Embed(pooling=cell.pooling)
    test = task.read(sampled(data / "stsb/test.jsonl.gz", cell.dev, folder))
    base = bw.load(cell.base, engine="reference")
    if cell.what == "cross":
        return cross(cell, folder, data, test)
    if cell.what == "raw":
        task.carry(base, base)
        return scored(task, base, test)
    train = rows(cell, folder, data)
    if cell.what == "triplet":
        train = mined(cell, base, train, folder)
    began = time.time()
    found = bw.finetune(
        "embed",
        base=base,
        train=train,
        dev=not_looked_at(cell, folder, data),
        loss=cell.what,
        pooling=cell.pooling,
        label="label" if cell.what == "softmax" else None,
        score_range=(0.0, 5.0),
        epochs=cell.epochs,
        steps=cell.steps,
        batch_size=64 if cell.what in ("mnrl", "simcse") else 32,
        metric=None,
        seed=cell.seed,
        dropout=0.1 if cell.what == "simcse" else None,
        precision="auto",
    )
    return {**scored(task, found.model, test), "trained": time.time() - began}


def not_looked_at(cell: Cell, folder: Path, data: Path) -> str:
    """A dev set without which a part of the training data would be held out."""
    return str(sampled(data / ("sick" if cell.what == "softmax" else "stsb") / "dev.jsonl.gz", 200, folder))


def rows(cell: Cell, folder: Path, data: Path) -> Any:
    """What is learned from; of duplicates only the texts where no pairs are needed."""
    source = data / f"{DATA[cell.what]}.jsonl.gz"
    path = sampled(source, cell.examples or 10**9, folder)
    if cell.what not in ("simcse", "tsdae"):
        return str(path)
    pairs = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{"text": text} for text in dict.fromkeys(row["text_a"] for row in pairs)]


def mined(cell: Cell, base: Any, train: str, folder: Path) -> str:
    """The pairs with a negative each that the encoder itself finds near."""
    from bothways.use.mine import mine

    out = folder / f"triplets-{cell.examples}.jsonl"
    if not out.exists():
        mine(base, train, out, top=1, among=30, skip=10, margin=-1.0)
    return str(out)


def scored(task: Any, model: Any, test: Any) -> dict[str, Any]:
    """Spearman's correlation, the time for all pairs of the test's texts with each other, and how vectors lie."""
    from bothways.learn.measures.geometry import geometry

    found = task.examine(model, test).scores["spearman"]
    texts = list(dict.fromkeys(test.texts))
    began = time.time()
    model.similarity(model.embed(texts), vectors := model.embed(texts))
    seconds = time.time() - began
    lie = {name: value for name, value in geometry(vectors).items() if name in ("mean_cosine", "uniformity")}
    return {"spearman": found, "pairs_a_second": len(texts) ** 2 / seconds, **lie}


def cross(cell: Cell, folder: Path, data: Path, test: Any) -> dict[str, Any]:
    """A regression that reads both texts of a pair at once."""
    import bothways as bw
    from bothways.learn.metrics import regression_scores

    began = time.time()
    train = str(sampled(data / "stsb/train.jsonl.gz", cell.examples or 10**9, folder))
    settings = {"steps": cell.steps, "epochs": cell.epochs, "seed": cell.seed, "metric": None, "precision": "auto"}
    settings |= {"dev": not_looked_at(cell, folder, data), "reads": {"cls": "pooled"}.get(cell.pooling, cell.pooling)}
    model = bw.finetune("regress", base=cell.base, train=train, label="score", symmetric=True, **settings).model
    trained = time.time() - began
    pairs = [test.group(number) for number in range(len(test))]
    began = time.time()
    guesses = model.score([one for one, _ in pairs], [other for _, other in pairs])
    seconds = time.time() - began
    found = regression_scores(test.scores(), guesses)["spearman"]
    return {"spearman": found, "pairs_a_second": len(pairs) / seconds, "trained": trained}


def report(results: dict[Cell, dict[str, Any]]) -> None:
    """Both tables in Markdown: Spearman on STS-B's test set, and what comparing costs."""
    print("| learned | " + " | ".join(POOLINGS) + " | pairs compared a second |\n|---|" + "---|" * (len(POOLINGS) + 1))
    for what in dict.fromkeys(cell.what for cell in results):
        mine = {cell: found for cell, found in results.items() if cell.what == what}
        cells = []
        for pooling in POOLINGS:
            values = [found["spearman"] for cell, found in mine.items() if cell.pooling == pooling]
            cells.append(f"{sum(values) / len(values):.3f}" if values and what != "cross" else "–")
        if what == "cross":
            cells[1] = f"{next(iter(mine.values()))['spearman']:.3f}"
        speed = max(found["pairs_a_second"] for found in mine.values())
        print(f"| {NAMES[what]} | {' | '.join(cells)} | {speed:,.0f} |")
    seeds = len({cell.seed for cell in results})
    print(
        f"\nSpearman's correlation on STS-B's test set, {seeds} seeds. Vectors are made once a "
        "text, however many pairs are compared; a cross-encoder reads each pair."
    )


if __name__ == "__main__":
    main()
