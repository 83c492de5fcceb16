"""Vectors on a processor: Bothways beside its peers, the same texts, in one run.

Texts: 800 sentences of STS-B, 800 paragraphs of Wikipedia and 400 film reviews, cut at 256 tokens; 32 of the sentences
are also asked one by one. Peers: sentence-transformers on torch, ONNX Runtime and OpenVINO, CTranslate2 and fastembed,
each at its best settings (see `inference_sides.py`) and with the best of a few batch sizes, which is looked for first.
Every measurement is a process of its own, the sides in turn within a round. Vectors are compared with those of
sentence-transformers in float32.

    python benchmarks/inference.py --models all-MiniLM-L6-v2 all-mpnet-base-v2
    python benchmarks/inference.py --models all-MiniLM-L6-v2 --texts 40 --rounds 1 --starts 1 --sides bothways onnx
    python benchmarks/inference.py --models all-MiniLM-L6-v2 --no-bf16

The peers do not go together with the newest transformers: ``pip install --constraint benchmarks/peers.txt '.[peers]'``
into an environment of their own, and ``--peers`` names its Python. What is finished is kept in ``--folder``: the script
can be stopped at any time and called again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from inference_prepare import KINDS, Order
from inference_sides import Job
from inference_texts import calibration_texts, counted_tokens, sampled_texts
from processes import in_process, measured

HERE = Path(__file__).resolve().parent
SHARED = HERE.parents[1] / "shared" / "data"
LENGTH = 256
SHORT = 32


@dataclass(frozen=True)
class Side:
    """One way to make vectors.

    Attributes:
        library: Who.
        engine: What of theirs; empty where there is one only.
        precision: As they call it.
        kind: What has to be made of the model beforehand.
        peer: Whether it runs in the environment of the peers.
    """

    library: str
    engine: str
    precision: str
    kind: str = ""
    peer: bool = True

    @property
    def name(self) -> str:
        """As it is asked for and reported."""
        return " ".join(part for part in (self.library, self.engine, self.precision) if part)


SIDES = (
    Side("sentence-transformers", "torch", "float32", peer=False),
    Side("sentence-transformers", "torch", "bf16", peer=False),
    Side("sentence-transformers", "onnx", "float32", "onnx"),
    Side("sentence-transformers", "onnx", "int8", "onnx"),
    Side("sentence-transformers", "openvino", "float32", "openvino"),
    Side("sentence-transformers", "openvino", "bf16", "openvino"),
    Side("sentence-transformers", "openvino", "int8", "openvino"),
    Side("ctranslate2", "", "float32", "ctranslate2-float32"),
    Side("ctranslate2", "", "int8", "ctranslate2-int8"),
    Side("fastembed", "", "float32", "fastembed"),
    Side("bothways", "packed", "float32", peer=False),
    Side("bothways", "packed", "bf16", peer=False),
    Side("bothways", "packed", "int16", peer=False),
    Side("bothways", "", "auto", peer=False),
    *(Side("bothways", "", f"auto within {bound}", f"within-{bound}", peer=False) for bound in ("0.9995", "0.999")),
    Side("bothways", "packed", "int8 within 0.99", "within-0.99", peer=False),
)
TRUTH = SIDES[0]


@dataclass(frozen=True)
class Cell:
    """One process.

    Attributes:
        measure: As `Job.measure`.
        model: The name of its folder.
        side: The name of the side.
        number: Of the round, or of the start.
        texts: How many there are.
        bf16: Whether the processor's bf16 is used.
    """

    measure: str
    model: str
    side: str
    number: int
    texts: int
    bf16: bool


def main() -> None:
    """Measures what is missing and prints the tables."""
    args = parse()
    args.folder.mkdir(parents=True, exist_ok=True)
    run = Run(args)
    results = run.results()
    for model in args.models:
        report(args, model, {cell: result for cell, result in results.items() if cell.model == model.name})
    for name, reason in run.failed.items():
        print(f"\nNot measured: {name} ({reason})")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", type=Path, required=True, help="sentence-transformers folders")
    parser.add_argument(
        "--sides", nargs="+", default=[""], help="words that the names of sides must have (default: all)"
    )
    parser.add_argument("--texts", type=int, default=2000, help="texts, in the same shares")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5, help="cold starts of each side")
    parser.add_argument("--passes", type=int, default=10, help="how often each of the short texts is asked")
    parser.add_argument("--threads", type=int, help="for computing (default: those that this process may run)")
    parser.add_argument("--no-bf16", action="store_true", help="as on a processor without bf16")
    parser.add_argument("--peers", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with stsb, wikipedia-en-slice and imdb")
    parser.add_argument("--folder", type=Path, default=Path("runs/inference"), help="keeps what is finished")
    args = parser.parse_args()
    args.models = [model.absolute() for model in args.models]
    return args


class Run:
    """One call of the script.

    Args:
        args: Its command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from bothways.run.machine import allowed_threads

        self.args = args
        self.threads = args.threads or allowed_threads()[0]
        self.texts = args.folder / f"texts-{args.texts}.json"
        self.texts.write_text(json.dumps(sampled_texts(args.texts, args.data, args.folder)), encoding="utf-8")
        self.models = {model.name: model for model in args.models}
        self.sides = {side.name: side for side in SIDES if any(word in side.name for word in args.sides)}
        self.batches: dict[tuple[str, str], int] = {}
        self.failed: dict[str, str] = {}

    def results(self) -> dict[Cell, dict[str, Any]]:
        """Of every cell that could be measured."""
        pairs = [(model, side) for model in self.models for side in self.sides.values() if self.prepared(model, side)]
        first = [self.cell("batch", model, side) for model, side in pairs if side.library != "bothways"]
        for cell, found in self.measured(first).items():
            self.batches[cell.model, cell.side] = found["batch"]
        pairs = [pair for pair in pairs if pair[1].library == "bothways" or (pair[0], pair[1].name) in self.batches]
        rounds = [self.cell("work", *pair, number) for number in range(self.args.rounds) for pair in pairs]
        starts = [self.cell("start", *pair, number) for number in range(self.args.starts) for pair in pairs]
        return self.measured([*rounds, *starts])

    def measured(self, cells: list[Cell]) -> dict[Cell, dict[str, Any]]:
        """The results of cells, measured where they are not kept."""
        return measured(cells, self.args.folder / "results.jsonl", lambda kept: Cell(**kept), self.measure, told)

    def cell(self, measure: str, model: str, side: Side, number: int = 0) -> Cell:
        """A cell of this run."""
        return Cell(measure, model, side.name, number, self.args.texts, not self.args.no_bf16)

    def prepared(self, model: str, side: Side) -> bool:
        """Whether the model is there in the form that a side wants; it is made where it is missing."""
        folder = self.args.folder / "models" / model
        folder.mkdir(parents=True, exist_ok=True)
        for kind in KINDS:
            wanted = kind == side.kind or (kind == "onnx" and side.kind == "fastembed")
            if not wanted or (folder / kind).exists():
                continue
            calibration = calibration_texts(self.args.data, self.args.folder)
            order = Order(kind, str(self.models[model]), str(folder), str(calibration), LENGTH, instructions())
            if self.asked(f"{model}, {side.name}", "inference_prepare.py", asdict(order), side) is None:
                return False
        return True

    def measure(self, cell: Cell) -> dict[str, Any] | None:
        """One cell by a fresh process; None, and a word about it, where a side fails."""
        side = self.sides[cell.side]
        out = vectors_file(self.args.folder, cell)
        out.parent.mkdir(exist_ok=True)
        job = Job(
            measure=cell.measure,
            library=side.library,
            engine=side.engine,
            precision=side.precision,
            model=str(self.models[cell.model]),
            prepared=str(self.args.folder.resolve() / "models" / cell.model),
            texts=str(self.texts),
            short=SHORT,
            passes=self.args.passes,
            length=LENGTH,
            batch=self.batches.get((cell.model, cell.side), 0),
            threads=self.threads,
            bf16=cell.bf16,
            out=str(out),
            started=time.time(),
        )
        return self.asked(f"{cell.model}, {cell.side}", "inference_sides.py", asdict(job), side)

    def asked(self, name: str, script: str, job: dict[str, Any], side: Side) -> dict[str, Any] | None:
        """What a script gives in the environment of a side; None where it fails."""
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self.args.no_bf16:
            variables["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE_VNNI"
        python = self.args.peers if side.peer else sys.executable
        try:
            return in_process(name, str(HERE / script), json.dumps(job), python=python, **variables)
        except SystemExit as error:
            print(error, file=sys.stderr)
            self.failed[name] = str(error).strip().splitlines()[-1]
            return None


def told(cell: Cell, result: dict[str, Any]) -> str:
    """One cell's figure."""
    found = {
        "batch": lambda: f"batches of {result['batch']}",
        "work": lambda: f"{cell.texts / result['seconds']:,.0f} texts/s",
        "start": lambda: f"first vector after {result['seconds']:.2f} s",
    }
    return f"{cell.model}, {cell.side}: {found[cell.measure]()}"


def vectors_file(folder: Path, cell: Cell) -> Path:
    """Where the vectors of a side are."""
    setting = "" if cell.bf16 else "-no-bf16"
    return folder / "vectors" / f"{cell.model}-{cell.side.replace(' ', '-')}-{cell.texts}{setting}.npy"


def instructions() -> str:
    """What this processor has, as the helper of ONNX quantisation calls it."""
    from bothways.run.machine import processor_features

    known = {"avx512_vnni": "avx512_vnni", "avx512f": "avx512", "avx2": "avx2", "neon": "arm64"}
    features = processor_features()
    return next((name for feature, name in known.items() if feature in features), "avx2")


# -- the report


def report(args: argparse.Namespace, model: Path, results: dict[Cell, dict[str, Any]]) -> None:
    """A model's table in Markdown: medians over the rounds."""
    texts = sampled_texts(args.texts, args.data, args.folder)
    tokens = counted_tokens(model, texts, LENGTH)
    titles = ["side", "batch", "tokens/s", "of its float32", "a processor's", "worst cosine", "mean"]
    titles += ["p50", "p99", "first vector", "memory"]
    print(f"\n{model.name}, {len(texts):,} texts, {tokens:,} tokens{', without bf16' if args.no_bf16 else ''}\n")
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    default = middle(results, TRUTH.name, "work", "seconds")
    for side in dict.fromkeys(cell.side for cell in results):
        print(f"| {' | '.join(line(args, results, side, tokens, default))} |")
    print(
        "\nMedians. Tokens are real ones, without padding; a processor's are those a second of its time, which other "
        f"work hardly disturbs. Of its float32: against {TRUTH.name}, with whose vectors the cosines are.\n"
        "p50, p99: one short text. First vector: from the start of the process. Memory: the peak."
    )
    known = {pair for result in results.values() for pair in result.get("versions", {}).items()}
    print(f"\n{', '.join(f'{name} {number}' for name, number in sorted(known))}")


def line(
    args: argparse.Namespace, results: dict[Cell, dict[str, Any]], side: str, tokens: int, default: float | None
) -> list[str]:
    """The cells of a side's line."""

    def told_in(measure: str, name: str, form: str, unit: float = 1) -> str:
        found = middle(results, side, measure, name)
        return "–" if found is None else form.format(found * unit)

    took = middle(results, side, "work", "seconds")
    batch, worked = (middle(results, side, "work", name) for name in ("batch", "processor_seconds"))
    worst, mean = cosines(args, results, side)
    return [
        side,
        f"{batch:.0f}" if batch else "",
        f"{tokens / took:,.0f}" if took else "–",
        f"{default / took:.2f}×" if took and default else "–",
        f"{tokens / worked:,.0f}" if worked else "–",
        "–" if worst is None else f"{worst:.7f}",
        "–" if mean is None else f"{mean:.7f}",
        told_in("work", "latency_p50", "{:.1f} ms", 1e3),
        told_in("work", "latency_p99", "{:.1f} ms", 1e3),
        told_in("start", "seconds", "{:.2f} s"),
        told_in("work", "memory", "{:,.0f} MiB", 2**-20),
    ]


def middle(results: dict[Cell, dict[str, Any]], side: str, measure: str, name: str) -> float | None:
    """The median of a figure; None where nothing was measured."""
    found = [result[name] for cell, result in results.items() if (cell.side, cell.measure) == (side, measure)]
    return statistics.median(found) if found else None


def cosines(
    args: argparse.Namespace, results: dict[Cell, dict[str, Any]], side: str
) -> tuple[float, float] | tuple[None, None]:
    """The worst and the mean cosine of a side's vectors with the true ones; None where either is not there."""
    cell = next(cell for cell in results if cell.side == side)
    files = [
        vectors_file(args.folder, Cell(cell.measure, cell.model, name, 0, cell.texts, cell.bf16))
        for name in (side, TRUTH.name)
    ]
    if not all(file.exists() for file in files):
        return None, None
    mine, true = (np.load(file).astype(np.float64) for file in files)
    found = (mine * true).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(true, axis=1)
    return float(found.min()), float(found.mean())


if __name__ == "__main__":
    main()
