"""Long runs of Bothways: does memory stay what it was?

First a file of texts, made of some by repetition, is embedded to disk by ``bothways embed``; then for some minutes a
model in this process answers calls of every size. What is held, without the pages of files that the system could take
back at any time, is noted every second in ``memory.csv``. The first tenth of the samples is warm-up, and flat means
that no tenth after it holds 5 % more than the second.

    python benchmarks/soak.py all-MiniLM-L6-v2 --texts 1000000 --minutes 15
    python benchmarks/soak.py my-bert --texts 100000 --minutes 0
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from inference_sides import memory

MOST = 0.05
EVERY = 1.0
"""Seconds between samples."""


def main() -> None:
    """Both runs; ends with 1 where memory was not flat."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model folder")
    parser.add_argument("--texts", type=int, default=1_000_000, help="to embed to disk (0: none)")
    parser.add_argument("--minutes", type=float, default=15.0, help="of calls in one process (0: none)")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--folder", type=Path, default=Path("runs/soak"), help="for the files, and memory.csv")
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    kinds = {"file to file": args.texts and file_to_file(args), "calls": args.minutes and calls(args)}
    flat = [judge(name, args.folder, samples) for name, samples in kinds.items() if samples]
    if not all(flat):
        raise SystemExit("memory was not flat")


def file_to_file(args: argparse.Namespace) -> Iterator[int]:
    """Samples while ``bothways embed`` runs."""
    from bothways.text.everyday import everyday_sentences

    source, out = args.folder / f"{args.texts}.txt", args.folder / f"{args.texts}.npy"
    if not source.exists():
        write_lines(source, itertools.islice(itertools.cycle(everyday_sentences(5000)), args.texts))
    command = [sys.executable, "-m", "bothways", "embed", args.model, str(source), str(out)]
    command += ["--overwrite", "--no-resume", "--precision", args.precision]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr) as child:
        while child.poll() is None:
            try:
                held = memory("RssAnon", child.pid)
            except (OSError, StopIteration):  # it has just ended
                break
            yield held
            time.sleep(EVERY)
    if child.returncode:
        raise SystemExit(f"bothways embed ended with {child.returncode}")
    took = time.monotonic() - began
    print(f"{args.texts:,} texts in {took:,.0f} s ({args.texts / took:,.0f} texts/s)")


def calls(args: argparse.Namespace) -> Iterator[int]:
    """Samples between calls of 1 to 256 texts, short and long ones, in an order that is drawn."""
    import bothways as bw
    from bothways.chance import generator
    from bothways.run.check import real_texts

    model, draw = bw.load(args.model, truncation="head", precision=args.precision), generator("soak", 0)
    texts = real_texts(256)
    made, until, last = 0, time.monotonic() + 60 * args.minutes, 0.0
    while time.monotonic() < until:
        model.embed([texts[place] for place in draw.integers(0, len(texts), int(draw.integers(1, 257)))])
        made += 1
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            yield memory("RssAnon")
    print(f"{made:,} calls in {args.minutes:g} minutes")


def write_lines(place: Path, lines: Iterable[str]) -> None:
    """A text a line, whole or not at all."""
    beside = place.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    beside.rename(place)


def judge(name: str, folder: Path, samples: Iterable[int]) -> bool:
    """Notes memory over time, says how it went, and whether it was flat."""
    held: list[int] = []
    with (folder / "memory.csv").open("a", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        for value in samples:
            held.append(value)
            table.writerow([name, len(held) - 1, round(value / 2**20, 1)])
            file.flush()
    bounds = [len(held) * tenth // 10 for tenth in range(11)]
    course = [statistics.median(held[first:last] or held[-1:]) for first, last in itertools.pairwise(bounds)]
    growth = max(course[1:]) / course[1] - 1
    told = " ".join(f"{middle / 2**20:,.0f}" for middle in course)
    print(f"{name}: {told} MiB in tenths of the time, after warm-up {100 * growth:.1f} % more at most", flush=True)
    return growth <= MOST


if __name__ == "__main__":
    main()
