"""Three ways to a biomedical encoder, with the same number of tokens read in all, and what each is worth.

Biomedical abstracts are cleaned, and left out where they overlap with the test split of NCBI-disease. Then

- *continued*: a general encoder (pre-trained here on Wikipedia, half of the tokens) reads abstracts (the other half);
- *extended*: the same, with words of the domain added to its vocabulary;
- *own*: random weights and a vocabulary of the domain, all of the tokens.

Each is measured in bits a character on held-out abstracts and on held-out Wikipedia, and by entity F1 on the test split
of NCBI-disease after fine-tuning with three seeds, chosen on the dev split. The general encoder stands beside them.

    python benchmarks/biomed.py --minutes 30 --out runs/biomed
    python benchmarks/biomed.py --only own         # that way alone; another process does the others meanwhile

Everything that is finished is kept in ``--out``: the script can be stopped at any time and called again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SEEDS = (0, 1, 2)
SIDES = ("general", "continued", "extended", "own")
BATCH, LENGTH, MASKED = 2048, 64, 0.3
"""Many small steps, and more masks than BERT's: small encoders leave the plateau of word frequencies sooner so."""


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/biomed"))
    parser.add_argument("--minutes", type=float, default=30, help="of the general pre-training; its steps are the unit")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--vocab-size", type=int, default=16_000)
    parser.add_argument("--new-tokens", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=6, help="of fine-tuning")
    parser.add_argument("--only", nargs="+", choices=SIDES, default=list(SIDES), help="the table comes with all")
    args = parser.parse_args()
    bio, wiki = prepare(args)
    steps = general(args, wiki)
    measured = {side: adapted(args, side, steps, bio, wiki) for side in SIDES[1:] if side in args.only}
    scores = {side: [fine_tuned(args, side, seed) for seed in SEEDS] for side in args.only}
    if len(args.only) == len(SIDES):
        measured["general"] = {"after": measured["continued"]["before"]}
        table(measured, scores, steps)


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What is in a file, or is made now."""
    if not path.exists():
        made = json.dumps(make(), indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made + "\n")
    return json.loads(path.read_text())


def prepare(args: argparse.Namespace) -> tuple[Path, Path]:
    """Both texts, cleaned; the folders of their documents."""
    import bothways as bw

    bio = bw.clean_corpus(
        args.data / "biomed-abstracts" / "train.txt.gz",
        args.out / "abstracts",
        languages=["en"],
        evaluation=[args.data / "ncbi-disease" / "test.jsonl.gz"],
        decontaminate=True,
    )
    wiki = bw.clean_corpus(args.data / "wikipedia-en-slice" / "train.txt.gz", args.out / "wikipedia")
    print("left out for NCBI-disease:", bio.card["overlaps"][0], f"{bio.card['overlapping']} documents", flush=True)
    return bio.text, wiki.text


def general(args: argparse.Namespace, wiki: Path) -> int:
    """The general encoder; how many steps its minutes came to."""
    import bothways as bw

    out = args.out / "general"

    def run() -> dict[str, Any]:
        done = bw.pretrain(
            wiki,
            out=out,
            size=args.size,
            vocab_size=args.vocab_size,
            objective="mlm",
            minutes=args.minutes,
            max_length=LENGTH,
            batch_tokens=BATCH,
            mask_rate=MASKED,
            dropout=0.0,
        )
        return {"steps": done.history.steps, "seconds": done.history.seconds, **done.scores}

    return int(kept(args.out / "general.json", run)["steps"])


def adapted(args: argparse.Namespace, side: str, steps: int, bio: Path, wiki: Path) -> dict[str, Any]:
    """One way to the domain; its bits a character."""
    import bothways as bw

    def run() -> dict[str, Any]:
        own = side == "own"
        return bw.adapt(
            args.out / "general",
            bio,
            out=args.out / side,
            general=wiki,
            held_out=args.data / "biomed-abstracts" / "valid.txt.gz",
            general_held_out=args.data / "wikipedia-en-slice" / "valid.txt.gz",
            vocabulary={"continued": "keep", "extended": "extend", "own": "own"}[side],
            new_tokens=args.new_tokens,
            replay=0.0 if own else 0.1,
            steps=2 * steps if own else steps,
            max_length=LENGTH,
            batch_tokens=BATCH,
            mask_rate=MASKED,
            dropout=0.0,
        ).result

    found: dict[str, Any] = kept(args.out / f"{side}.json", run)
    return found


def fine_tuned(args: argparse.Namespace, side: str, seed: int) -> float:
    """Entity F1 on the test split of NCBI-disease."""
    import bothways as bw

    data = args.data / "ncbi-disease"

    def run() -> dict[str, Any]:
        tuned = bw.finetune(
            "tag",
            base=args.out / side,
            train=data / "train.jsonl.gz",
            dev=data / "dev.jsonl.gz",
            epochs=args.epochs,
            max_length=LENGTH,
            truncation="window",
            dropout=0.1,
            seed=seed,
        )
        found = bw.evaluate(tuned.model, data / "test.jsonl.gz", train=data / "train.jsonl.gz")
        return {"f1": found["f1"], "dev": tuned.scores["f1"], "seconds": tuned.history.seconds}

    return float(kept(args.out / f"ncbi-{side}-{seed}.json", run)["f1"])


def table(measured: dict[str, Any], scores: dict[str, list[float]], steps: int) -> None:
    """Prints what came of it."""
    print("\n| | tokens read | bits/char, abstracts | bits/char, Wikipedia | NCBI-disease F1 | seeds |")
    print("|---|---|---|---|---|---|")
    for side in SIDES:
        bits = [measured[side]["after"][name]["bits_per_character"] for name in ("domain", "general")]
        read = steps * BATCH * (1 if side == "general" else 2)
        found = scores[side]
        spread = f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}"
        seeds = ", ".join(f"{one:.3f}" for one in found)
        print(f"| {side} | {read / 1e6:.1f} M | {bits[0]:.3f} | {bits[1]:.3f} | {spread} | {seeds} |")
    print("\n" + measured["continued"]["check"]["verdict"])


if __name__ == "__main__":
    main()
