"""Every family at one common size: tokens a second, forward and in training, beside `transformers`.

Both sides get the same random weights, the same texts in the same batches, the same dropout and precision, and their
outputs are compared before the clock starts. Texts have mixed lengths: Bothways packs a batch, `transformers` pads it
to its longest text. Only real tokens count. A forward pass is the encoder alone, in evaluation; a training step is
masked-token prediction on 15 % of the tokens with AdamW (fused). Packing is timed, padding is not.

    python benchmarks/families.py                                   # all families, float32
    python benchmarks/families.py --precision bf16 --families bert distilbert
    python benchmarks/families.py --order length                    # batches of texts of similar lengths
    python benchmarks/families.py --quick --out /tmp/quick.jsonl    # tiny, to see that it runs

Each figure comes from a process of its own, in which the sides take turns; the table shows medians. What is finished is
kept in ``--out``: the script can be stopped at any time and called again. Needs the test extra. Texts are paragraphs of
the English Wikipedia beside this checkout, or else of this Python's documentation.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from processes import in_process, measured

SHARED = Path(__file__).resolve().parents[2] / "shared"
VOCABULARY, LONGEST = 30_522, 512
SHORTEST = 40
"""Characters of a paragraph; what is shorter is a heading."""
QUICK = {"width": 64, "layers": 2, "texts": 6, "batch": 3, "rounds": 1}


@dataclass(frozen=True)
class Cell:
    """What is measured in one process: both sides of a family at some work."""

    table: str  # "common" for the size that all families have, "pair" for DistilBERT beside BERT
    family: str
    mode: str
    layers: int
    width: int
    batch: int
    texts: int
    rounds: int
    order: str
    dropout: float
    precision: str
    device: str


def main() -> None:
    args = parse()
    if args.cell:
        from family_sides import measure

        cell = Cell(**json.loads(args.cell))
        print(json.dumps(measure(cell, json.loads(args.ids.read_text())[: cell.texts])))
        return
    cells = list(wanted(args))
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "texts.json"

        def by_process(cell: Cell) -> dict[str, Any]:
            if not ids.exists():
                ids.write_text(json.dumps(texts(max(cell.texts for cell in cells))))
            given = ("--cell", json.dumps(asdict(cell)), "--ids", str(ids))
            return in_process(f"{cell.family}, {cell.mode}", __file__, *given)

        results = measured(cells, args.out, lambda kept: Cell(**kept), by_process, told)
    report(results, args)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", help="some of them; default all")
    parser.add_argument("--modes", nargs="+", choices=("forward", "training"), default=["forward", "training"])
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=256, help="heads are 64 wide")
    parser.add_argument("--batch", type=int, default=16, help="texts in a batch")
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="counted passes over all texts, after an uncounted one")
    parser.add_argument("--order", choices=("random", "length"), default="random", help="of texts, before batching")
    parser.add_argument("--dropout", type=float, default=0.1, help="of hidden states, attention and embeddings")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32", help="of both sides")
    parser.add_argument("--pair-width", type=int, help="of 12 layers of BERT against 6 of DistilBERT; default --width")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--quick", action="store_true", help="tiny counts, for correctness only")
    parser.add_argument("--out", type=Path, default=Path("runs/families.jsonl"))
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    parser.add_argument("--ids", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    return args


def wanted(args: argparse.Namespace) -> Iterator[Cell]:
    """All families at the common size, then BERT and DistilBERT in the proportions of their published sizes."""
    from bothways.model.families import families

    names = args.families or list(families())
    same = ("layers", "width", "texts", "batch", "rounds", "order", "dropout", "precision", "device")
    common = {name: getattr(args, name) for name in same}
    for name, mode in itertools.product(names, args.modes):
        yield Cell(table="common", family=name, mode=mode, **common)
    if {"bert", "distilbert"} <= set(names) and "forward" in args.modes:
        for name, layers in (("bert", 12), ("distilbert", 6)):
            shape = {"layers": layers, "width": args.pair_width or args.width}
            pair = Cell(table="pair", family=name, mode="forward", **common | shape)
            yield pair
            yield replace(pair, batch=1, texts=min(32, args.texts))  # one at a time, as the paper measures


def texts(count: int) -> list[list[int]]:
    """Token ids of paragraphs of all lengths, with the special tokens, cut at the longest input."""
    import random

    import bothways as bw
    from bothways.text.pydocs import python_documentation

    articles = SHARED / "data" / "wikipedia-en-slice" / "train.txt.gz"
    if articles.exists():
        with gzip.open(articles, "rt", encoding="utf-8") as file:
            paragraphs = [line.strip() for line in itertools.islice(file, 50_000) if len(line) > SHORTEST]
    else:
        paragraphs = [
            text for document in python_documentation() for text in document.paragraphs if len(text) > SHORTEST
        ]
    vocabulary = SHARED / "tokenizers" / "bert-base-uncased"
    if vocabulary.exists():
        tokenizer = bw.Tokenizer.load(vocabulary)
    else:
        tokenizer = bw.train_tokenizer(paragraphs, vocab_size=VOCABULARY)
    random.Random(0).shuffle(paragraphs)
    encoded = tokenizer.encode(paragraphs[:count], max_length=LONGEST, truncation="head")
    ends = itertools.pairwise(encoded.starts.tolist())
    # the ids that pad in some family are no tokens of a text in any
    return [[max(2, token) for token in encoded.token_ids[a:b].tolist()] for a, b in ends]


def told(cell: Cell, result: dict[str, Any]) -> str:
    speeds = {side: f"{speed(result, side):,.0f} tokens/s" for side in result["seconds"]}
    return ", ".join([cell.family, cell.mode, *(f"{side} {shown}" for side, shown in speeds.items())])


def speed(result: dict[str, Any], side: str) -> float:
    """Real tokens a second, the median of the rounds."""
    return result["tokens"] / statistics.median(result["seconds"][side])


# -- the report


def report(results: dict[Cell, dict[str, Any]], args: argparse.Namespace) -> None:
    """The table in Markdown, then ALBERT and DistilBERT beside what their papers say."""
    from bothways.model.families import family

    first = next(iter(results.values()))
    common = {(cell.family, cell.mode): result for cell, result in results.items() if cell.table == "common"}
    mean, real = first["tokens"] / args.texts, first["tokens"] / first["padded"]
    print(
        f"{args.layers} layers, {args.width} wide, vocabulary {VOCABULARY:,}, {args.precision}, {args.device} "
        f"({first['threads']} threads), dropout {args.dropout:g} in training; {args.texts} texts of {mean:.0f} tokens "
        f"on average in batches of {args.batch} ({args.order} order), {real:.0%} of a padded batch real\n"
    )
    titles = [f"{mode}: {what}" for mode in args.modes for what in ("Bothways", "transformers", "ratio")]
    titles = ["family", "parameters", "operations a token", *titles, "apart"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name in dict.fromkeys(name for name, _ in common):
        mine = [common[name, mode] for mode in args.modes]
        cost = [f"{mine[0]['parameters'] / 1e6:.1f} M", f"{mine[0]['operations'] / 1e6:.1f} M"]
        apart = [result["apart"] for result in mine if result["apart"] is not None]
        cells = [*cost, *itertools.chain(*map(columns, mine)), f"{max(apart):.0e}" if apart else "–"]
        print(f"| {family(name).title} | {' | '.join(cells)} |")
    print(
        "\nReal tokens a second. Operations: multiplications, each with an addition, of the encoder. Apart: the "
        "largest difference of the sides' hidden states, or losses, before the clock starts."
    )
    albert(common, args.modes)
    distilbert(results)


def columns(result: dict[str, Any]) -> list[str]:
    """Bothways, transformers and their ratio."""
    ours = speed(result, "bothways")
    if "transformers" not in result["seconds"]:
        return [f"{ours:,.0f}", "–", "–"]
    theirs = speed(result, "transformers")
    return [f"{ours:,.0f}", f"{theirs:,.0f}", f"{ours / theirs:.2f}×"]


def albert(common: dict[tuple[str, str], dict[str, Any]], modes: list[str]) -> None:
    """Sharing a block saves parameters, not work."""
    from bothways.model.counts import parameter_count, work
    from bothways.model.families import family

    if not {("albert", modes[0]), ("bert", modes[0])} <= common.keys():
        return
    sizes = [family(name).size() for name in ("albert", "bert")]
    parameters = [parameter_count(size) / 1e6 for size in sizes]
    operations = [work(size) / 1e6 for size in sizes]
    print("\nALBERT beside BERT, at the base sizes counted, at the common size measured:")
    print(f"- parameters: {parameters[0]:.1f} M against {parameters[1]:.1f} M, {parameters[0] / parameters[1]:.2f}×")
    print(
        f"- operations a token of 128: {operations[0]:.1f} M against {operations[1]:.1f} M, "
        f"{operations[0] / operations[1]:.2f}×"
    )
    for mode in modes:
        ours = [speed(common[name, mode], "bothways") for name in ("albert", "bert")]
        print(f"- {mode}, tokens/s: {ours[0]:,.0f} against {ours[1]:,.0f}, {ours[0] / ours[1]:.2f}×")


def distilbert(results: dict[Cell, dict[str, Any]]) -> None:
    """Half the layers; Sanh et al. 2019, table 3, state 410 against 668 seconds: 1.6 times as fast (one at a time)."""
    pairs = {(cell.family, cell.batch): result for cell, result in results.items() if cell.table == "pair"}
    batches = sorted({batch for name, batch in pairs if name == "distilbert"}, reverse=True)
    if batches:
        print("\n6 layers of DistilBERT against 12 of BERT, forward (published: 1.6×, one text at a time):")
    for batch in batches:
        for side in pairs["distilbert", batch]["seconds"]:
            half, whole = (speed(pairs[name, batch], side) for name in ("distilbert", "bert"))
            print(f"- {side}, batches of {batch}: {half:,.0f} against {whole:,.0f} tokens/s, {half / whole:.2f}×")


if __name__ == "__main__":
    main()
