"""Every objective on real text for ten minutes, then a probe: what each teaches an encoder of one size.

Encoders of 4 layers of 256 are pre-trained on the slice of English Wikipedia in ``../shared/data``, all with the same
vocabulary of 8,000, sequences of 32 tokens and 2,048 tokens a step. Two probes follow, beside the same encoders
untrained: 2,000 training examples of SST-2 are fine-tuned on with three seeds, and a logistic regression learns from
the same examples' mean vectors, the encoder frozen. The published dev set of 872 is scored.

    python benchmarks/objectives.py --out runs/objectives --minutes 10
    python benchmarks/objectives.py --rows mlm rtd        # some of them

What is finished is kept in ``--out``: the script can be stopped at any time and called again, a training goes on where
it stopped. Distillation has a script of its own (distil.py).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from real_run import SEEDS, SHARED, read, run_cell, training_rows

BODY = {"layers": "4", "width": "256", "embeddings.width": "256", "attention.heads": "4", "feed_forward.width": "1024"}
ROWS: dict[str, dict[str, Any]] = {
    "mlm": {},
    "mlm, whole words": {"mask_unit": "word"},
    "mlm, spans": {"mask_unit": "span"},
    "mlm, static masks": {"static_masks": 10},
    "mlm, rate from 40 to 15 %": {"mask_rate": 0.4, "mask_rate_end": 0.15},
    "mlm, full sentences": {"sequences": "full-sentences"},
    "mlm, sentences of a document": {"sequences": "doc-sentences"},
    "mlm+nsp": {"objective": "mlm+nsp"},
    "mlm+sop": {"objective": "mlm+sop"},
    "rtd": {"objective": "rtd", "mask_rate": 0.15},
    "rtd+sop": {"objective": "rtd+sop", "mask_rate": 0.15},
    "mlm, enhanced mask decoder": {"family": "deberta"},
    "rtd, disentangled tables": {"family": "deberta-v2", "objective": "rtd", "mask_rate": 0.15},
}
"""What differs from masked tokens, 30 % of them chosen anew in every epoch, in blocks of running text, with BERT."""


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with wikipedia-en-slice and sst2")
    parser.add_argument("--out", type=Path, default=Path("runs/objectives"))
    parser.add_argument("--minutes", type=float, default=10, help="of training, for each row")
    parser.add_argument("--steps", type=int, help="instead of minutes, such as on a busy machine")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    args = parser.parse_args()

    cells = args.out / "cells.jsonl"
    done = [json.loads(line) for line in cells.read_text().splitlines()] if cells.exists() else []
    for row in args.rows:
        base = pretrained(row, args)
        for start, seed in [(start, seed) for start in ("pretrained", "random") for seed in SEEDS]:
            name = row_of(row, start)
            for probe, run in (("frozen", frozen_cell), ("tuned", run_cell)):
                if (name, probe, start, seed) in [
                    (one["row"], one["probe"], one["start"], one["seed"]) for one in done
                ]:
                    continue
                done.append({"row": name, "probe": probe, **run(start, seed, base, args.data)})
                with cells.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
                print(done[-1], flush=True)
    report(done, args)


def pretrained(row: str, args: argparse.Namespace) -> Path:
    """The folder of a row's pre-training, which is done first if it is not there."""
    import bothways as bw
    from bothways.text.prepare import prepare
    from bothways.text.shards import Corpus

    text, corpus, out = args.data / "wikipedia-en-slice" / "train.txt.gz", args.out / "corpus", args.out / slug(row)
    if (out / "model").exists():
        return out
    if not (corpus / "index.json").exists():
        place = args.out / "tokenizer"
        tokenizer = bw.Tokenizer.load(place) if place.exists() else bw.train_tokenizer(text, vocab_size=8000, out=place)
        prepare(text, tokenizer, corpus)
    settings = {"objective": "mlm", "mask_rate": 0.3, **ROWS[row]}
    family, start = settings.pop("family", "bert"), args.out / f"{slug(row)}-start"
    if not start.exists():
        heads = () if "rtd" in settings["objective"] else ("mlm",)
        bw.new(family, vocab=Corpus.open(corpus).tokenizer, settings=BODY, heads=heads).save(start)
    end = {"steps": args.steps} if args.steps else {"minutes": args.minutes}
    options = {"max_length": 32, "batch_tokens": 2048, "dropout": 0.0, "optimizer": "muon", **end}
    bw.pretrain(corpus, base=start, out=out, **options, **settings)
    return out


def row_of(row: str, start: str) -> str:
    """Under which name a cell is kept: untrained encoders of one family are the same in all rows."""
    return row if start == "pretrained" else ROWS[row].get("family", "bert")


def frozen_cell(start: str, seed: int, base: Path, data: Path) -> dict[str, Any]:
    """A logistic regression on mean vectors of an encoder that is not trained further."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    import bothways as bw
    from bothways.run.model import Model

    model = bw.load(base, truncation="window")
    if start == "random":
        model = Model.random(model.config, model.tokenizer, seed=seed)
        model.max_length, model.truncation = 32, "window"
    train, dev = training_rows(data), read(data, "dev")
    vectors = [model.embed([row["text"] for row in rows], "mean") for rows in (train, dev)]
    linear = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=[1e-4, 1e-3, 1e-2, 0.1], scoring="accuracy", l1_ratios=(0,), use_legacy_attributes=False, max_iter=2000
        ),
    )
    linear.fit(vectors[0], [row["label"] for row in train])
    score = linear.score(vectors[1], [row["label"] for row in dev])
    return {"start": start, "seed": seed, "accuracy": float(score)}


def slug(row: str) -> str:
    """A folder's name."""
    return "-".join("".join(letter if letter.isalnum() else " " for letter in row).split())


def report(cells: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """The table."""
    print("\n| | | | | SST-2, frozen: | | SST-2, fine-tuned: | |")
    print("| objective | steps | loss, first and last | held out | untrained | pre-trained | untrained | pre-trained |")
    print("|---|---|---|---|---|---|---|---|")
    for row in args.rows:
        run = json.loads((args.out / slug(row) / "run.json").read_text())["results"]
        log = [json.loads(line) for line in (args.out / slug(row) / "log.jsonl").read_text().splitlines()]
        losses = [line["loss"] for line in log if line["event"] == "step"]
        held = ", ".join(f"{name.partition('.')[2]} {run[name]:.1%}" for name in run if name.startswith("accuracy."))
        scores = []
        for probe, start in [(probe, start) for probe in ("frozen", "tuned") for start in ("random", "pretrained")]:
            place = (row_of(row, start), probe, start)
            found = [cell["accuracy"] for cell in cells if (cell["row"], cell["probe"], cell["start"]) == place]
            scores.append(f"{statistics.mean(found):.3f} ± {statistics.stdev(found):.3f}")
        print(f"| {row} | {run['steps']:,} | {losses[0]:.2f}, {losses[-1]:.2f} | {held} | {' | '.join(scores)} |")


if __name__ == "__main__":
    main()
