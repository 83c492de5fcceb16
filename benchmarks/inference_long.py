"""Long runs of Bothways for `inference.py`: does memory stay what it was?

Memory is what the process holds without the pages of files that the system could take back at any time; the first tenth
of the samples is warm-up, and flat means that none of the others is more than 5 % above the second tenth.
"""

from __future__ import annotations

import argparse
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


def million(args: argparse.Namespace, model: str, texts: list[str]) -> None:
    """A million sentences, by repetition, through ``bothways embed`` to disk."""
    source, out = args.folder / f"{args.rows}.txt", args.folder / f"{args.rows}.npy"
    if not source.exists():
        write_lines(source, itertools.islice(itertools.cycle(sentences(texts)), args.rows))
    chosen = [
        word for name in ("engine", "precision") if getattr(args, name) for word in (f"--{name}", getattr(args, name))
    ]
    command = [sys.executable, "-m", "bothways", "embed", model, str(source), str(out), "--overwrite", *chosen]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=sys.stderr) as child:
        samples = list(watched(child))
    if child.returncode:
        raise SystemExit(f"bothways embed ended with {child.returncode}")
    took = time.monotonic() - began
    judge(f"{args.rows:,} texts of {Path(model).name} in {took:,.0f} s ({args.rows / took:,.0f} texts/s)", samples)


def soak(args: argparse.Namespace, model: str, texts: list[str]) -> None:
    """All texts again and again, in calls of every size, for so many minutes."""
    import bothways as bw
    from bothways.chance import generator

    chosen = {name: getattr(args, name) for name in ("engine", "precision") if getattr(args, name)}
    loaded, draw = bw.load(model, truncation="head", **chosen), generator("soak", 0)
    samples, calls, until = [], 0, time.monotonic() + 60 * args.soak
    while time.monotonic() < until:
        size = int(draw.integers(1, 257))
        loaded.embed([texts[place] for place in draw.integers(0, len(texts), size)])
        samples.append(memory("RssAnon"))
        calls += 1
    judge(f"{args.soak:g} minutes of {Path(model).name}, {calls:,} calls", samples)


def sentences(texts: list[str]) -> list[str]:
    """The sentences, which come first and are two fifths of the texts; line ends become spaces."""
    return [" ".join(text.split()) for text in texts[: len(texts) * 2 // 5]]


def write_lines(place: Path, lines: Iterable[str]) -> None:
    """A text a line, whole or not at all."""
    beside = place.with_suffix(".tmp")
    with beside.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    beside.rename(place)


def watched(child: subprocess.Popen[bytes]) -> Iterator[int]:
    """What a process holds, from time to time, until it ends."""
    while child.poll() is None:
        try:
            yield memory("RssAnon", child.pid)
        except (OSError, StopIteration):  # it has just ended
            return
        time.sleep(EVERY)


def judge(name: str, samples: list[int]) -> None:
    """Says how memory went, and ends with 1 where it was not flat."""
    bounds = [len(samples) * tenth // 10 for tenth in range(11)]
    tenths = [samples[first:last] or samples[-1:] for first, last in itertools.pairwise(bounds)]
    course = [statistics.median(tenth) for tenth in tenths]
    growth = max(itertools.chain(*tenths[1:])) / course[1] - 1
    told = " ".join(f"{middle / 2**20:,.0f}" for middle in course)
    print(f"{name}: {told} MiB in tenths of the time, the highest after warm-up {100 * growth:.1f} % above the second")
    if growth > MOST:
        raise SystemExit("memory was not flat")
