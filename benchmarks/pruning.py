"""What pruning costs: multilingual-e5-small with the vocabulary of one language, all-MiniLM-L6-v2 with less inside.

The vocabulary is that of German sentences (PAWS-X, XNLI); what it costs is measured on other ones, the German test
split of STS-B, beside the whole model. Layers and inner values of MiniLM are chosen on Wikipedia paragraphs and
measured on the English test split of STS-B, without further training. Spearman correlations of cosines with people's
scores.

    python benchmarks/pruning.py --minilm all-MiniLM-L6-v2 --e5 multilingual-e5-small --out runs/pruning

`benchmarks/e5_folder.py` makes a folder of multilingual-e5-small. What is in ``--out`` is not made again.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from real_run import SHARED

MINILM = {
    "whole": {},
    "vocabulary": {"vocabulary": True},
    "feed-forward 3/4": {"feed_forward": 0.75},
    "feed-forward 1/2": {"feed_forward": 0.5},
    "5 layers": {"layers": 5},
    "4 layers": {"layers": 4},
    "3 layers": {"layers": 3},
    "5 layers, feed-forward 3/4, vocabulary": {"layers": 5, "feed_forward": 0.75, "vocabulary": True},
}
E5 = {"whole": {}, "German": {"vocabulary": True}, "German, twice or more": {"vocabulary": True, "fewest": 2}}


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with the data sets")
    parser.add_argument("--minilm", type=Path, help="a folder of all-MiniLM-L6-v2")
    parser.add_argument("--e5", type=Path, help="a folder of multilingual-e5-small")
    parser.add_argument("--out", type=Path, default=Path("runs/pruning"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| | million parameters | tokens | megabytes | mean cosine with the whole | worst | STS-B |")
    print("|---|---|---|---|---|---|---|")
    for name, model, rows in (("MiniLM", args.minilm, MINILM), ("multilingual-e5", args.e5, E5)):
        for row, asked in rows.items() if model else ():
            kept = args.out / f"{name}-{row.replace('/', '-')}.json"
            if not kept.exists():
                kept.write_text(json.dumps(measured(args, name, model, row, asked)))
            told = json.loads(kept.read_text())
            figures = f"{told['parameters'] / 1e6:.1f} | {told['tokens']:,} | {told['bytes'] / 1e6:.0f}"
            print(f"| {name}, {row} | {figures} | {told['mean']:.4f} | {told['worst']:.4f} | {told['spearman']:.4f} |")


def measured(args: argparse.Namespace, name: str, source: Path, row: str, asked: dict[str, Any]) -> dict[str, Any]:
    """One row."""
    import bothways as bw

    base, german = bw.load(source, device="cpu"), name != "MiniLM"
    test = args.data / ("stsb-multi/de-test.jsonl.gz" if german else "stsb/test.jsonl.gz")
    texts = list(german_texts(args.data) if german else wikipedia(args.data))
    folder = args.out / f"{name}-{row.replace('/', '-')}"
    found = None
    if asked:
        sentences = [row["text_a"] for row in rows_of(test)]
        found = bw.prune(base, texts, held_out=sentences, **asked)
        found.model.save(folder, overwrite=True)
        base = bw.load(folder, device="cpu")
    else:
        base.save(folder, overwrite=True)
    scores = bw.evaluate(base, test)["scores"]
    return {
        "parameters": base.parameters,
        "tokens": base.config.embeddings.vocab_size,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "mean": found.alike["mean_cosine"] if found else 1.0,
        "worst": found.alike["worst_cosine"] if found else 1.0,
        "spearman": scores["spearman"],
    }


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file."""
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def german_texts(data: Path) -> Iterator[str]:
    """Sentences of PAWS-X and XNLI."""
    for file in ("paws-x/de-dev.jsonl.gz", "paws-x/de-test.jsonl.gz", "xnli/de-dev.jsonl.gz"):
        for row in rows_of(data / file):
            yield from (row["text_a"], row["text_b"])


def wikipedia(data: Path) -> Iterator[str]:
    """The first paragraphs."""
    with gzip.open(data / "wikipedia-en-slice" / "train.txt.gz", "rt", encoding="utf-8") as lines:
        yield from islice((line.strip() for line in lines if len(line.split()) > 20), 20_000)


if __name__ == "__main__":
    main()
