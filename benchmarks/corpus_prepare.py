"""Cleaning a gigabyte of real text, repeated and perturbed: speed, memory, copies found, the same bytes whoever works.

Documents are made of sentences of real ones, drawn anew each time, so that they say different things in real words.
Planted among them are exact copies, near copies (one word in a hundred exchanged) and look-alikes, which share a third
of their sentences with another document and are no copies.

    python benchmarks/corpus_prepare.py ../shared/data/wikipedia-en-slice/train.txt.gz
    python benchmarks/corpus_prepare.py TEXT... --megabytes 50 --only 1 4

Each way runs in a process of its own, which is watched; what is there already is not made again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bothways.chance import generator
from bothways.text.documents import read_documents
from bothways.text.files import numbered, open_bytes
from bothways.text.sentences import split_sentences

KINDS = ("new", "exact", "near", "look-alike")
SHARES = (0.80, 0.06, 0.08, 0.06)
NEAR, ALIKE = 0.01, 0.33
WAYS = {"1": ["--workers", "1"], "4": ["--workers", "4"], "ray": ["--on", "ray", "--workers", "2"]}


def main() -> None:
    """Makes the text, runs each way, prints what it took and what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--only", nargs="*", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--folder", type=Path, default=Path("runs/corpus-prepare"))
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    source = args.folder / f"{args.megabytes}.jsonl"
    if not source.exists():
        make(args.texts, source, args.megabytes * 1_000_000)
    for way in args.only:
        result = args.folder / f"{args.megabytes}-{way}.json"
        if not result.exists():
            result.write_text(json.dumps(measure(source, args.folder / f"{args.megabytes}-{way}", WAYS[way])))
    found = {way: json.loads((args.folder / f"{args.megabytes}-{way}.json").read_text()) for way in args.only}
    for way, figures in found.items():
        print(way, json.dumps(figures, indent=1))
    print("same bytes:", len({figures["digest"] for figures in found.values()}) == 1)


def kind_of(number: int) -> str:
    """What a document is; a function of its number."""
    return KINDS[int(np.searchsorted(np.cumsum(SHARES), generator("kind", number).random()))] if number > 100 else "new"


def make(texts: list[Path], out: Path, size: int) -> None:
    """Writes the documents: JSON lines with ``text``."""
    pool, starts = array("b"), [0]  # sentences as bytes, so that they take no more memory than their letters
    for path in texts:
        for document in read_documents(path):
            for paragraph in document.paragraphs:
                for sentence in split_sentences(paragraph):
                    if 6 <= len(sentence.split()) <= 60:
                        pool.frombytes(sentence.encode())
                        starts.append(len(pool))

    def drawn(draw: np.random.Generator, count: int) -> list[str]:
        places = draw.integers(0, len(starts) - 1, count)
        return [pool[starts[place] : starts[place + 1]].tobytes().decode() for place in places]

    def sentences(number: int) -> list[str]:
        draw, kind = generator("document", number), kind_of(number)
        if kind == "new":
            return drawn(draw, int(draw.integers(6, 30)))
        original = sentences(first(int(draw.integers(0, number))))
        if kind == "exact":
            return original
        if kind == "near":
            return " ".join(exchanged(word, draw) for word in " ".join(original).split()).split("\n")
        kept = max(1, round(ALIKE * len(original)))
        return original[:kept] + drawn(draw, len(original) - kept)

    written = number = 0
    partial = out.with_suffix(".partial")
    with partial.open("w", encoding="utf-8") as file:
        while written < size:
            line = json.dumps({"text": " ".join(sentences(number))}, ensure_ascii=False) + "\n"
            written += len(line.encode())
            file.write(line)
            number += 1
    partial.replace(out)


def first(number: int) -> int:
    """The nearest document before that is new."""
    while kind_of(number) != "new":
        number -= 1
    return number


def exchanged(word: str, draw: np.random.Generator) -> str:
    """The word, or once in a hundred times another one."""
    return "instead" if draw.random() < NEAR else word


def measure(source: Path, out: Path, options: list[str]) -> dict[str, object]:
    """Cleans the text in a process that is watched."""
    command = [sys.executable, "-m", "bothways", "corpus", "clean", source, "--out", out, "--overwrite", *options]
    began, seen = time.perf_counter(), []
    running = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    while running.poll() is None:
        seen.append(resident(running.pid))
        time.sleep(1)
    seconds = time.perf_counter() - began
    if running.returncode:
        sys.exit(running.returncode)
    card = json.loads((out / "card.json").read_text())
    quarters = [round(float(np.median(part)) / 1024) for part in np.array_split(seen, 4)]
    return {
        "megabytes": round(source.stat().st_size / 1e6),
        "documents": card["read"],
        "seconds": round(seconds, 1),
        "documents_per_second": round(card["read"] / seconds),
        "resident_MiB_by_quarter": quarters,
        "resident_MiB_at_most": round(max(seen) / 1024),
        **judged(out, card["read"]),
        "digest": digest(out / "text"),
    }


def resident(process: int) -> int:
    """Resident memory of a process in KiB."""
    try:
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0


def judged(out: Path, count: int) -> dict[str, object]:
    """How many of the planted copies were left out, and how many of those left out are copies."""
    kept = np.zeros(count, dtype=bool)
    for source in kept_sources(out / "text"):
        kept[int(source.rsplit(" ", 1)[1]) - 1] = True
    kinds = np.array([KINDS.index(kind_of(number)) for number in range(count)])
    copies = (kinds == 1) | (kinds == 2)
    gone = ~kept
    rates = {f"{name} left out": round(float(gone[kinds == place].mean()), 4) for place, name in enumerate(KINDS)}
    return {
        "planted": int(copies.sum()),
        "left_out": int(gone.sum()),
        "recall": round(float(gone[copies].mean()), 4),
        "precision": round(float(copies[gone].mean()), 4),
        **rates,
    }


def kept_sources(folder: Path) -> Iterator[str]:
    """Where each document that was kept stood."""
    for path in sorted(folder.iterdir()):
        with open_bytes(path) as stream:
            for _, line in numbered(stream, path.name):
                yield json.loads(line)["source"]


def digest(folder: Path) -> str:
    """Of all files of a folder, names and bytes."""
    made = hashlib.blake2b(digest_size=16)
    for path in sorted(folder.iterdir()):
        made.update(path.name.encode() + path.read_bytes())
    return made.hexdigest()


if __name__ == "__main__":
    main()
