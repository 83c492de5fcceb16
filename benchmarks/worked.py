"""The worked examples of docs/finetuning.md, run for real: files are prepared, then the commands of the page are run.

    python benchmarks/worked.py --base all-MiniLM-L6-v2
    python benchmarks/worked.py --base all-MiniLM-L6-v2 --examples squad2 --rows 60    # a small part, to try it out

Each example has a folder in ``--out`` with its files, its run, predictions and evaluation of the test set. What is
finished stays: the script can be stopped at any time and called again, and a training goes on where it stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.chance import generator

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
Row = dict[str, Any]
Splits = dict[str, list[Row]]


@dataclass(frozen=True)
class Example:
    """A worked example.

    Attributes:
        task: As on the command line.
        prepare: Makes the rows of ``train``, ``dev`` and ``test`` of a folder of data sets; without ``dev`` the command
            holds a part of ``train`` out.
        options: Of ``finetune``.
        answers: Of ``predict``: the kind of file that answers go to, and options.
        metrics: Which scores stand in the table.
    """

    task: str
    prepare: Callable[[Path], Splits]
    options: str
    answers: str
    metrics: tuple[str, ...]


def main() -> None:
    """Runs what is missing and prints the table."""
    args = parse()
    print("| example | base | rows | score on the test set | 95 % interval | baselines | training |\n|" + "---|" * 7)
    for name in args.examples:
        folder = args.out / (name if args.rows is None else f"{name}-{args.rows}")
        folder.mkdir(parents=True, exist_ok=True)
        files = prepared(EXAMPLES[name], args.data, folder, args.rows)
        work(EXAMPLES[name], args.base, folder, files, shlex.split(args.more))
        print(told(name, EXAMPLES[name], args.base, folder, files), flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="sentence-transformers/all-MiniLM-L6-v2", help="a model folder, or a hub id")
    parser.add_argument("--examples", nargs="+", choices=tuple(EXAMPLES), default=list(EXAMPLES))
    parser.add_argument("--rows", type=int, help="at most so many rows of each file, to try it out")
    parser.add_argument("--more", default="", help="more options of finetune, such as '--steps 20'")
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--out", type=Path, default=Path("runs/worked"))
    return parser.parse_args()


def prepared(example: Example, data: Path, folder: Path, most: int | None) -> dict[str, Path]:
    """The files of an example, written once."""
    files = {name: folder / f"{name}.jsonl" for name in ("train", "dev", "test")}
    if not files["test"].exists():
        splits = example.prepare(data)
        for name, rows in (splits if most is None else some(splits, most)).items():  # the test set comes last
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            files[name].write_text(text, encoding="utf-8")
    return {name: path for name, path in files.items() if path.exists()}


def some(splits: Splits, most: int) -> Splits:
    """A few rows of each part, without classes that the first of them does not hold."""
    few = {name: rows[:: max(1, len(rows) // most)][:most] for name, rows in splits.items()}
    known = {kind for row in few["train"] for kind in kinds_of(row)}
    return {name: [row for row in rows if kinds_of(row) <= known] for name, rows in few.items()}


def kinds_of(row: Row) -> set[str]:
    """The classes, labels and tags of a row."""
    return {*([row["label"]] if "label" in row else []), *row.get("labels", []), *row.get("tags", [])}


def work(example: Example, base: str, folder: Path, files: dict[str, Path], more: list[str]) -> None:
    """Fine-tunes, predicts and evaluates, as far as that is not done."""
    ending, *wishes = shlex.split(example.answers)
    run, answers, judged = folder / "run", folder / f"answers{ending}", folder / "evaluation"
    dev = ["--dev", files["dev"]] if "dev" in files else []
    if not (run / "run.json").exists():
        options = [*shlex.split(example.options), *more]
        command("finetune", example.task, files["train"], *dev, "--base", base, *options, "--out", run)
    if not answers.exists():
        command("predict", run, files["test"], *wishes, "--out", answers)
    if not (judged / "metrics.json").exists():
        command("evaluate", run, files["test"], "--out", judged)


def command(*words: object) -> None:
    """Runs a command of Bothways, and says which."""
    typed = [str(word) for word in words]
    print(f"$ bothways {shlex.join(typed)}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, "-m", "bothways", *typed], stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"bothways {typed[0]} ended with {done.returncode}")


def told(name: str, example: Example, base: str, folder: Path, files: dict[str, Path]) -> str:
    """The row of the table: what `metrics.json` and `run.json` hold."""
    found = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    run = json.loads((folder / "run" / "run.json").read_text(encoding="utf-8"))
    rows = {split: sum(1 for _ in path.open(encoding="utf-8")) for split, path in files.items()}
    scores = ", ".join(f"{metric} {found[metric]:.3f}" for metric in example.metrics)
    intervals = ", ".join("{:.3f} to {:.3f}".format(*found["intervals"][metric]) for metric in example.metrics)
    others = [one for one in found["contenders"] if one["role"] != "model"]
    against = "; ".join(f"{one['name']} {one['metrics'][example.metrics[0]]:.3f}" for one in others)
    took = f"{run['results']['steps']:,} steps, {run['results']['seconds'] / 60:.1f} min"
    sizes = ", ".join(f"{split} {count:,}" for split, count in rows.items())
    return f"| {name} | {Path(base).name} | {sizes} | {scores} | {intervals} | {against} | {took} |"


# -- the data


def lines(data: Path, name: str) -> list[Row]:
    """The rows of a data set's split."""
    with gzip.open(data / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def shuffled(rows: list[Row]) -> list[Row]:
    """The rows in an order that is drawn once."""
    return [rows[place] for place in generator("worked", 0).permutation(len(rows))]


def shares(rows: list[Row], dev: float, test: float) -> Splits:
    """Rows drawn into three parts."""
    mixed = shuffled(rows)
    first, second = round(len(mixed) * test), round(len(mixed) * (test + dev))
    return {"train": mixed[second:], "dev": mixed[first:second], "test": mixed[:first]}


def imdb(data: Path) -> Splits:
    """5,000 reviews to learn from, 1,000 others of the training part to choose by, 5,000 of the test part."""
    train, test = shuffled(lines(data, "imdb/train")), shuffled(lines(data, "imdb/test"))
    return {"train": train[:5000], "dev": train[5000:6000], "test": test[:5000]}


def chemprot(data: Path) -> Splits:
    """The published parts; both entities stand between marks."""
    return {split: lines(data, f"chemprot/{split}") for split in ("train", "dev", "test")}


def clauses(data: Path) -> Splits:
    """Sentences of terms of service with the kinds of unfairness in each, mostly none."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for row in lines(data, "unfair-tos/all"):
        kinds[row["text"]].add(row["label"])
    rows = [{"text": text, "labels": sorted(found - {"fair"})} for text, found in kinds.items()]
    return shares(rows, 0.1, 0.2)


def financial(data: Path) -> Splits:
    """Sentences of financial news, each once."""
    rows = {row["text"]: row for row in lines(data, "financial-phrasebank/all")}
    return shares(list(rows.values()), 0.1, 0.2)


def names(data: Path) -> Splits:
    """The published parts of CoNLL-2003."""
    keep = ("tokens", "tags")
    return {
        split: [{name: row[name] for name in keep} for row in lines(data, f"conll2003/{split}")]
        for split in ("train", "dev", "test")
    }


def squad2(data: Path) -> Splits:
    """The dev part of SQuAD 2.0: every other article to learn from, the others to be asked about."""
    rows = lines(data, "squad2/dev")
    articles = list(dict.fromkeys(row["title"] for row in rows))
    learned = set(articles[::2])
    dev = set(articles[::2][::8])

    def of(titles: Iterable[str]) -> list[Row]:
        return [row for row in rows if row["title"] in titles]

    return {"train": of(learned - dev), "dev": of(dev), "test": of(set(articles) - learned)}


EXAMPLES = {
    "imdb": Example(
        "classify",
        imdb,
        "--hidden gelu --truncation head_tail --max-length 256",
        ".csv",
        ("accuracy", "macro_f1"),
    ),
    "chemprot": Example("classify", chemprot, "--max-length 128", ".csv", ("accuracy", "macro_f1")),
    "clauses": Example(
        "classify",
        clauses,
        "--max-length 128 --reads mean --learning-rate 3e-4 --epochs 4",
        ".jsonl",
        ("macro_f1", "accuracy"),
    ),
    "financial": Example("classify", financial, "--max-length 96", ".csv", ("accuracy", "macro_f1")),
    "names": Example("tag", names, "--crf --max-length 128", ".conll --keep", ("f1",)),
    "squad2": Example("answer", squad2, "--max-length 384 --stride 128", ".json", ("exact_match", "f1")),
}


if __name__ == "__main__":
    main()
