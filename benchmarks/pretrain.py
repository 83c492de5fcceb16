"""Masked-LM pre-training: Bothways against the Trainer of `transformers`, side by side.

Both sides train the same encoder from the same random weights on the same blocks in the same order with the same
masking (15 %, 80/10/10, dynamic), dropout (0.1 on hidden states and on attention), optimizer (AdamW, fused, the same
rates at every step, the same decay), clipping and tokens a step. Each side runs in a process of its own, the sides in
turn, several rounds; the first steps are not counted. What differs is how the work is done: both sides in float32 and
in bf16.

    python benchmarks/pretrain.py                         # BERT-mini, blocks of 128 tokens
    python benchmarks/pretrain.py --table                 # also 6 layers, 384 wide, and blocks of 512
    python benchmarks/pretrain.py --curves --steps 200    # the loss curves, one run a side
    python benchmarks/pretrain.py --device cuda --families bert modernbert --sizes base --batch-tokens 65536

What is finished is kept in ``--folder``: the script can be stopped at any time and called again. Needs the test extra.
The text is the documentation of this Python, or ``--text FILE``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretrain_sides import MASKED, Task, roofs, run
from processes import in_process, measured

OWN_SIZES = {"6x384": {"layers": 6, "width": 384, "attention.heads": 6, "feed_forward.width": 1536}}
"""Sizes that no paper has, by what they change of the family's usual one; heads are 64 wide."""
TABLE = {"sizes": ["mini", "6x384"], "max_length": [128, 512]}
SIDES = tuple(itertools.product(("bothways", "transformers"), ("float32", "bf16")))


@dataclass(frozen=True)
class Cell:
    """What is compared: an encoder and the shape of its batches."""

    family: str
    size: str
    length: int
    batch_tokens: int
    dropout: float
    vocab_size: int
    device: str


@dataclass(frozen=True)
class Run:
    """One process: a side of a cell in a round, or the machine's roofs, which have no side."""

    cell: Cell
    side: str
    precision: str
    round: int
    steps: int
    warm: int


def main() -> None:
    args = parse()
    if args.task:
        task = json.loads(args.task)
        print(json.dumps(roofs(task["device"]) if task["side"] == "roof" else run(Task(**task))))
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    results = measured(
        list(wanted(args)),
        args.folder / "results.jsonl",
        lambda kept: Run(**kept | {"cell": Cell(**kept["cell"])}),
        lambda one: by_process(one, args.folder, args.text),
        told,
    )
    report(results)
    if args.curves:
        curves(results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help=f"all cells: {TABLE}")
    parser.add_argument("--families", nargs="+", default=["bert"])
    parser.add_argument("--sizes", nargs="+", default=["mini"], help=f"published ones, or {', '.join(OWN_SIZES)}")
    parser.add_argument("--max-length", nargs="+", type=int, default=[128])
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=12, help="counted steps a run")
    parser.add_argument("--warm", type=int, default=3, help="steps before those")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bf16"), default=["float32", "bf16"])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--curves", action="store_true", help="one round, and the losses")
    parser.add_argument("--text", help="raw text (default: the documentation of this Python)")
    parser.add_argument("--vocab-size", type=int, default=30_522)
    parser.add_argument("--folder", type=Path, default=Path("runs/pretrain"), help="keeps what is finished")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        vars(args).update(TABLE)
    return args


def wanted(args: argparse.Namespace) -> Iterator[Run]:
    """All runs, round by round, so that what disturbs the machine for a while disturbs every side."""
    for number in range(1 if args.curves else args.rounds):
        for family, size, length in itertools.product(args.families, args.sizes, args.max_length):
            cell = Cell(family, size, length, args.batch_tokens, args.dropout, args.vocab_size, args.device)
            yield Run(cell, "roof", "", number, 0, 0)
            for side, precision in SIDES:
                if precision in args.precisions:
                    yield Run(cell, side, precision, number, args.steps, args.warm)


def by_process(one: Run, folder: Path, text: str | None) -> dict[str, Any]:
    """One run, by a fresh process."""
    task: dict[str, Any] = {"side": one.side, "device": one.cell.device}
    if one.side != "roof":
        corpus = prepared(folder, text, one.cell.vocab_size)
        task |= {"precision": one.precision, "corpus": str(corpus), "start": str(starting(folder, one.cell, corpus))}
        task |= {"length": one.cell.length, "batch": one.cell.batch_tokens // one.cell.length}
        task |= {"steps": one.steps, "warm": one.warm, "started": time.time()}
    return in_process(one.side, __file__, "--task", json.dumps(task))


def prepared(folder: Path, text: str | None, vocab_size: int) -> Path:
    """The prepared corpus."""
    import bothways as bw
    from bothways.text.prepare import prepare
    from bothways.text.pydocs import python_documentation

    place = folder / f"corpus-{vocab_size}"
    if not (place / "index.json").exists():
        source = text or list(python_documentation())
        tokens = folder / f"tokenizer-{vocab_size}"
        tokenizer = bw.Tokenizer.load(tokens) if tokens.exists() else None
        prepare(source, tokenizer or bw.train_tokenizer(source, vocab_size=vocab_size, out=tokens), place)
    return place


def starting(folder: Path, cell: Cell, corpus: Path) -> Path:
    """The same random weights for both sides, as a folder that both open."""
    import bothways as bw

    place = folder / f"{cell.family}-{cell.size}-{cell.dropout:g}-{cell.vocab_size}"
    if not place.exists():
        parts = ("dropout", "attention.dropout", "embeddings.dropout")
        settings = OWN_SIZES.get(cell.size, {}) | dict.fromkeys(parts, cell.dropout)
        size = None if cell.size in OWN_SIZES else cell.size
        bw.new(cell.family, size, vocab=corpus / "tokenizer", heads=("mlm",), settings=settings).save(place)
    return place


# -- the report


def told(one: Run, result: dict[str, Any]) -> str:
    if one.side == "roof":
        return ", ".join(f"{name} {speed / 1e9:,.0f} GFLOP/s" for name, speed in result.items())
    cell = one.cell
    return f"{cell.family} {cell.size}, {cell.length}, {one.side} {one.precision}: {speed(one, result):,.0f} tokens/s"


def speed(one: Run, result: dict[str, Any]) -> float:
    """Tokens a second, by the median step."""
    return one.cell.batch_tokens // one.cell.length * one.cell.length / statistics.median(result["seconds"])


def operations(cell: Cell) -> float:
    """Operations of a token in training, as `bothways.learn.utilisation` counts them."""
    from bothways.learn.utilisation import TRAINED, guess_work
    from bothways.model.compose import changed
    from bothways.model.counts import work, work_after_attention
    from bothways.model.families import family

    members = family(cell.family)
    config = changed(members.size(None if cell.size in OWN_SIZES else cell.size), OWN_SIZES.get(cell.size, {}))
    config = config.derive(embeddings__vocab_size=cell.vocab_size)
    guesses = round(MASKED * (cell.length - 2)) / cell.length
    body = work(config, cell.length) - (1 - guesses) * work_after_attention(config)
    return 2 * TRAINED * (body + guesses * guess_work(config))


def report(results: dict[Run, dict[str, Any]]) -> None:
    """The table in Markdown: medians over the rounds."""
    titles = ["model", "blocks", "side", "tokens/s", "of the same precision", "of its default", "utilisation"]
    titles += ["memory", "first step"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for cell in dict.fromkeys(one.cell for one in results):
        mine = {one: result for one, result in results.items() if one.cell == cell}
        roof = statistics.median(result["bf16"] for one, result in mine.items() if one.side == "roof")
        speeds = {
            kind: statistics.median(speed(one, result) for one, result in mine.items() if kind == kind_of(one))
            for kind in dict.fromkeys(kind_of(one) for one in mine if one.side != "roof")
        }
        for (side, precision), reached in speeds.items():
            theirs = [speeds.get(("transformers", other)) for other in (precision, "float32")]
            ratios = [f"{reached / other:.2f}×" if other else "–" for other in theirs]
            here = [result for one, result in mine.items() if kind_of(one) == (side, precision)]
            memory, first = (statistics.median(result[name] for result in here) for name in ("memory", "first_step"))
            row = [f"{cell.family} {cell.size}", str(cell.length), f"{side}, {precision}", f"{reached:,.0f}", *ratios]
            row += [f"{operations(cell) * reached / roof:.0%}", f"{memory / 2**20:,.0f} MiB", f"{first:.1f} s"]
            print(f"| {' | '.join(row)} |")
    every = [result for one, result in results.items() if one.side == "roof"]
    low, high = (pick(result["bf16"] for result in every) / 1e9 for pick in (min, max))
    rounds = len({one.round for one in results})
    print(
        f"\nMedians of {rounds} rounds. Utilisation is the share of the bf16 roof, which was {low:,.0f} to {high:,.0f} "
        "GFLOP/s in the rounds. Its default is transformers in float32. Memory is the peak of the process (of the GPU "
        "if there); the first step is counted from the start of the process."
    )


def kind_of(one: Run) -> tuple[str, str]:
    return one.side, one.precision


def curves(results: dict[Run, dict[str, Any]]) -> None:
    """The mean losses of each tenth of the run, the sides beside each other."""
    for cell in dict.fromkeys(one.cell for one in results):
        sides = {kind_of(one): result["losses"] for one, result in results.items() if one.cell == cell and one.steps}
        names = [f"{side}, {precision}" for side, precision in sides]
        print(f"\n{cell.family} {cell.size}, blocks of {cell.length}:\n\n| steps | {' | '.join(names)} |")
        print("|" + "---|" * (len(names) + 1))
        total = max(map(len, sides.values()))
        for first in range(0, total, max(1, total // 10)):
            last = min(total, first + max(1, total // 10))
            means = [statistics.mean(losses[first:last]) for losses in sides.values()]
            print(f"| {first + 1}–{last} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")


if __name__ == "__main__":
    main()
