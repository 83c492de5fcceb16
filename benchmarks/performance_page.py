"""`docs/performance.md`: what `inference.py` measured, as tables and pictures.

    python benchmarks/performance_page.py --folder runs/inference

The page is made anew from ``results.jsonl`` and the vectors beside it. How fast this machine multiplies is measured
here, once for each table, and kept in ``roof.json``: make the page on the machine that was measured, right after it,
while nothing else runs.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inference import SIDES, TRUTH, Cell, cosines, middle
from inference_texts import counted_tokens

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
LENGTH = 256
COLOURS = {"bothways": "#c2410c", "sentence-transformers": "#1d4ed8", "ctranslate2": "#15803d", "fastembed": "#7e22ce"}
MARKS = {"float32": "o", "bf16": "s", "int16": "P", "int8": "^"}
HEAD = """# How fast it is

Made by `python benchmarks/performance_page.py` from what `python benchmarks/inference.py` measured. All libraries of a
table ran in one session on one machine, on the same texts, each at its best settings and the best of several batch
sizes, every measurement in a process of its own. The texts are sentences of STS-B, paragraphs of Wikipedia and film
reviews, cut at 256 tokens. Cosines are with the vectors of sentence-transformers in float32.
"""
TAIL = """## What stands in the way of the roof

The roof is what a large product of matrices reaches on this machine, and nothing else: no attention, no norms, no
tokenizer. With our own kernels the products of the linear layers run at the roof (107 of 113 GFLOP/s a core
in float32, 214 of 221 in bf16, 377 of 427 in int8, GELU and all else that follows them included; 22 November 2026).
They are 87 % of the time in float32, 86 % in bf16, 79 % in int16 and 74 % in int8; attention is 10, 11, 12 and 16 %,
norms 1 to 2 %, the rounding of inputs for int16 3 and for int8 5 %, and the rest are embeddings, pooling and Python.
Wider models are nearer to the roof: their attention is a smaller share.

A GPU has not been measured.
"""


@dataclass(frozen=True)
class Line:
    """What one side came to.

    Attributes:
        side: Its name.
        speed: Tokens a second; medians over the rounds, as everything here.
        times: As fast as sentence-transformers in float32.
        worst: The worst cosine.
        latency: Milliseconds for one short text, and the 99th percentile.
        start: Seconds to the first vector.
        memory: The peak in MiB.
        share: Of the roof; None where that is not Bothways, or computes in several precisions.
    """

    side: str
    speed: float
    times: float
    worst: float
    latency: tuple[float, float]
    start: float | None
    memory: float
    share: float | None


def main() -> None:
    """Writes the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/inference"))
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder of performance.md")
    parser.add_argument("--threads", type=int, help="of the measurement (default: those that this process may run)")
    args = parser.parse_args()
    groups = grouped(args.folder / "results.jsonl")
    if not groups:
        raise SystemExit(f"{args.folder / 'results.jsonl'} holds no measurement; run benchmarks/inference.py first")
    names = {group: f"performance-{group[0]}{'' if group[2] else '-no-bf16'}.svg" for group in groups}
    roofs = measured_roofs(args.folder / "roof.json", list(names.values()), args.threads)
    parts = [HEAD]
    for (model, count, bf16), results in sorted(groups.items(), key=lambda item: (not item[0][2], item[0][0])):
        name = names[model, count, bf16]
        lines = told(args, model, count, bf16, results, roofs[name]["speeds"])
        draw(args.out / name, lines)
        parts.append(section(model, count, bf16, lines, name, results, roofs[name]))
    parts.append(TAIL)
    (args.out / "performance.md").write_text("\n".join(parts), encoding="utf-8")
    print(f"{args.out / 'performance.md'}: {', '.join(dict.fromkeys(model for model, _, _ in groups))}")


def grouped(path: Path) -> dict[tuple[str, int, bool], dict[Cell, dict[str, Any]]]:
    """Results by model, number of texts and whether bf16 was used; of each model the largest number of texts."""
    found: dict[tuple[str, int, bool], dict[Cell, dict[str, Any]]] = defaultdict(dict)
    for line in path.read_text().splitlines() if path.exists() else []:
        kept = json.loads(line)
        cell = Cell(**kept["cell"])
        found[cell.model, cell.texts, cell.bf16][cell] = kept["result"]
    most = {(model, bf16): max(c for m, c, b in found if (m, b) == (model, bf16)) for model, _, bf16 in found}
    return {key: results for key, results in found.items() if key[1] == most[key[0], key[2]]}


def measured_roofs(path: Path, names: list[str], threads: int | None) -> dict[str, dict[str, Any]]:
    """For each table operations a second by precision, the threads and the day; measured where they are not kept."""
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
    if new := [name for name in names if name not in kept]:
        kept |= dict.fromkeys(new, measured_roof(threads))
        path.write_text(json.dumps(kept))
    return kept


def measured_roof(threads: int | None) -> dict[str, Any]:
    """How fast this machine multiplies now."""
    import torch

    from bothways.run.engines.packed.int8 import can_int8
    from bothways.run.engines.packed.int16 import can_int16
    from bothways.run.machine import allowed_threads
    from bothways.run.precision import Precision
    from bothways.run.roof import roof

    torch.set_num_threads(threads or allowed_threads()[0])
    able = {"float32": True, "bf16": True, "int16": can_int16(), "int8": can_int8()}
    speeds = {kind: roof(Precision(kind, "", "cpu")) for kind in able if able[kind]}
    return {"speeds": speeds, "threads": torch.get_num_threads(), "on": datetime.now(UTC).date().isoformat()}


def told(
    args: argparse.Namespace,
    model: str,
    count: int,
    bf16: bool,
    results: dict[Cell, dict[str, Any]],
    roofs: dict[str, float],
) -> list[Line]:
    """A line for each side that was measured, in the order of the benchmark."""
    folder = args.folder / "models" / model / "onnx"
    texts = json.loads((args.folder / f"texts-{count}.json").read_text(encoding="utf-8"))
    tokens = counted_tokens(folder, texts, LENGTH)
    each = operations(json.loads((folder / "config.json").read_text()))
    default = middle(results, TRUTH.name, "work", "seconds")
    lines = []
    for side in SIDES:
        took = middle(results, side.name, "work", "seconds")
        if took is None or default is None:
            continue
        kind = {"auto": "bf16" if bf16 else "float32"}.get(side.precision, side.precision.removesuffix(" within 0.99"))
        p50, p99, memory = (
            middle(results, side.name, "work", f) or 0 for f in ("latency_p50", "latency_p99", "memory")
        )
        lines.append(
            Line(
                side=side.name,
                speed=tokens / took,
                times=default / took,
                worst=cosines(args, results, side.name)[0] or float("nan"),
                latency=(p50 * 1e3, p99 * 1e3),
                start=middle(results, side.name, "start", "seconds"),
                memory=memory / 2**20,
                share=tokens / took * each / roofs[kind] if side.library == "bothways" and kind in roofs else None,
            )
        )
    return lines


def operations(config: dict[str, Any]) -> float:
    """Of the linear layers, for one token: two for each weight."""
    width, inner, layers = (config[name] for name in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    return float(2 * layers * (4 * width * width + 2 * width * inner))


def section(
    model: str,
    count: int,
    bf16: bool,
    lines: list[Line],
    picture: str,
    results: dict[Cell, dict[str, Any]],
    roof: dict[str, Any],
) -> str:
    """A model's part of the page."""
    title = model if bf16 else f"{model}, as on a processor without bf16"
    rows = [
        f"| {one.side} | {one.speed:,.0f} | {one.times:.2f}× | {one.worst:.7f} "
        f"| {'' if one.share is None else f'{one.share:.0%}'} | {one.latency[0]:.1f} ({one.latency[1]:.1f}) "
        f"| {'–' if one.start is None else f'{one.start:.2f}'} | {one.memory:,.0f} |"
        for one in lines
    ]
    versions = sorted({pair for result in results.values() for pair in result.get("versions", {}).items()})
    known = ", ".join(f"{kind} {speed / 1e9:,.0f}" for kind, speed in roof["speeds"].items())
    rounds = 1 + max(cell.number for cell in results if cell.measure == "work")
    return "\n".join(
        [
            f"## {title}\n",
            f"![Tokens a second, and how far vectors are from float32, of every side]({picture})\n",
            f"{count:,} texts, medians of {rounds} round{'s' * (rounds > 1)}. "
            f"The roof, in GFLOP/s of a product of 1024 × 1024 matrices on {roof['threads']} threads ({roof['on']}): "
            f"{known}.\n",
            "| side | tokens/s | against sentence-transformers float32 | worst cosine | of the roof "
            "| ms for one text (p99) | first vector, s | MiB |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            f"\n{', '.join(f'{name} {number}' for name, number in versions)}\n",
        ]
    )


def draw(path: Path, lines: list[Line]) -> None:
    """Speed as bars, and beside them how far the worst vector is from float32."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams.update({"svg.hashsalt": "bothways", "svg.fonttype": "none", "font.size": 9})
    ordered = sorted(lines, key=lambda one: one.speed)
    figure, (bars, points) = plt.subplots(
        1, 2, figsize=(9, 0.32 * len(ordered) + 1.2), sharey=True, width_ratios=(3, 2), layout="constrained"
    )
    colours = [COLOURS[one.side.split()[0]] for one in ordered]
    places = range(len(ordered))
    bars.barh(places, [one.speed for one in ordered], color=colours)
    bars.set_yticks(places, [one.side for one in ordered])
    bars.set_xlabel("tokens a second")
    for place, one in zip(places, ordered, strict=True):
        distance = max(1 - one.worst, 1e-7) if one.worst == one.worst else 1e-7
        mark = next((sign for kind, sign in MARKS.items() if kind in one.side), "D")
        points.plot(distance, place, mark, color=colours[place])
    points.set_xscale("log")
    points.axvline(1e-3, color="#888888", linewidth=0.8, linestyle="--")
    points.set_xlabel("1 − worst cosine (line: 0.999)")
    for axes in (bars, points):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
