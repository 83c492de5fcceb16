"""A table of a million rows through `finetune classify`, `predict` and `evaluate`: how much memory each takes at most.

The table is made up: texts of common words (5 to 45, or others by --words), three classes that some of them decide. A
tiny random encoder is trained on it for a few steps, then asked about every row; what matters here is what stays in
memory.

    python benchmarks/million_rows.py
    python benchmarks/million_rows.py --words 100 --only finetune
    python benchmarks/million_rows.py --rows 200000 --words 100 --only predict evaluate --most 1000

Exits with 1 where a command takes more than ``--most`` MiB.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TEXT = """
the a of and to in is was it for on as with his he at by from her she they were which or an are this but be not have had
one all out when up there been who him more if no so what said its about into than them can only other new red river
stone bridge small town old house garden winter summer morning evening teacher child book letter music
"""
WORDS = TEXT.split()
CLASSES = {"river": "water", "bridge": "water", "garden": "land", "winter": "land"}


def main() -> None:
    """Makes the table, runs both commands, prints what they took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--words", type=int, default=25, help="of a text, on average")
    parser.add_argument("--only", choices=("finetune", "predict", "evaluate"), nargs="*", help="commands to run")
    parser.add_argument("--most", type=int, default=2000, help="MiB that no command may exceed")
    parser.add_argument("--folder", type=Path, default=Path("runs/million-rows"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    table = args.folder / f"{args.rows}x{args.words}.csv"
    if not table.exists():
        with table.open("w", encoding="utf-8") as file:
            file.writelines(rows(args.rows, args.words))
    base = args.folder / "base"
    if not base.exists():
        import bothways as bw

        tokenizer = bw.train_tokenizer([" ".join(WORDS)] * 10, vocab_size=400)
        bw.new("bert", "tiny", vocab=tokenizer, settings={"layers": "1", "width": "64"}).save(base)
    train = ["finetune", "classify", table, "--base", base, "--steps", "20", "--max-length", "128", "--overwrite"]
    model = args.folder / "classifier"
    commands = {
        "finetune": [*train, "--out", model],
        "predict": ["predict", model, table, "--out", args.folder / "out.parquet", "--overwrite"],
        "evaluate": ["evaluate", model, table, "--out", args.folder / "evaluation", "--overwrite"],
    }
    asked = {name: commands[name] for name in args.only or ("finetune", "predict")}
    peaks = {name: peak(name, list(map(str, command))) for name, command in asked.items()}
    if max(peaks.values()) > args.most:
        raise SystemExit(f"more than {args.most:,} MiB were taken")


def rows(count: int, mean: int) -> Iterator[str]:
    """The lines of the table."""
    yield "id,text,label,source\n"
    draw = np.random.default_rng(0)
    for number in range(count):
        length = draw.integers(mean // 5, 2 * mean - mean // 5 + 1)
        words = [WORDS[place] for place in draw.integers(0, len(WORDS), length)]
        label = next((CLASSES[word] for word in words if word in CLASSES), "other")
        yield f"{number},{' '.join(words)},{label},made up\n"


def peak(name: str, command: list[str]) -> float:
    """Runs a command, says how long it took, and returns the most memory it held, in MiB."""
    code = (
        "import sys; from bothways.cli import main; from bothways.run.machine import peak_memory; "
        "status = main(sys.argv[1:]); print(peak_memory()); sys.exit(status)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, *command], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{name} ended with {done.returncode}")
    mebibytes = int(done.stdout.split()[-1]) / 2**20
    print(f"{name}: {mebibytes:,.0f} MiB, {time.monotonic() - began:,.0f} s", flush=True)
    return mebibytes


if __name__ == "__main__":
    main()
