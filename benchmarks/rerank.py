"""Reranking: what reading query and text together gains over words and vectors, and what it costs.

SciFact's claims (Wadden et al. 2020): BM25's best abstracts of each claim are put in order by a bi-encoder and by a
cross-encoder, which learns here from the training claims, each with its abstract and some that only share its words.

    python benchmarks/rerank.py --base all-MiniLM-L6-v2 --out runs/rerank
    python benchmarks/rerank.py --base all-MiniLM-L6-v2 --queries 40 --top 20 --out runs/short

What is finished is kept in ``--out``: the training goes on where it was, finished cells are not done again. nDCG@10 and
MRR@10 count relevant abstracts that BM25 did not find; seconds are of a claim with all its abstracts, and those of the
bi-encoder without the abstracts' vectors, which are made once.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from real_run import SHARED

NEGATIVES, DEV = 20, 40
LISTS: dict[str, Any] = {"loss": "softmax", "list_size": 6, "batch_size": 12, "max_length": 160, "truncation": "head"}
Scores = Callable[[list[dict[str, Any]]], list[np.ndarray]]


def main() -> None:
    """Trains what is not trained, does the next cells and prints the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED / "scifact", help="the folder with corpus and queries")
    parser.add_argument("--base", required=True, help="a sentence model: the bi-encoder, and what learns to rerank")
    parser.add_argument("--reranker", help="a cross-encoder that is trained already")
    parser.add_argument("--out", type=Path, default=Path("runs/rerank"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--queries", type=int, help="so many claims and no more")
    parser.add_argument("--top", type=int, default=100, help="abstracts of a claim")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "cells.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    asked = claims(args, "test")[: args.queries]
    sides: dict[str, Callable[[], Scores]] = {
        "BM25": lambda: lambda rows: [-np.arange(len(row["texts"]), dtype=float) for row in rows],
        "bi-encoder": lambda: bi_encoder(args, asked),
        "cross-encoder": lambda: cross_encoder(args),
    }
    for name, make in sides.items():
        if not any(cell["side"] == name for cell in done):
            done.append({"side": name, **measured(make(), asked)})
            with kept.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    print("| order by | nDCG@10 | MRR@10 | seconds a claim |\n|---|---|---|---|")
    for cell in done:
        print(f"| {cell['side']} | {cell['ndcg']:.3f} | {cell['mrr']:.3f} | {cell['seconds']:.3f} |")


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def claims(args: argparse.Namespace, split: str) -> list[dict[str, Any]]:
    """Claims with BM25's best abstracts, which are relevant, and how many are in all."""
    from bothways.use.search.memory import Words

    corpus = rows_of(args.data / "corpus.jsonl.gz")
    texts = {str(row["id"]): f"{row.get('title') or ''} {row['text']}".strip() for row in corpus}
    asked = {str(row["id"]): row["text"] for row in rows_of(args.data / "queries.jsonl.gz")}
    relevant: dict[str, set[str]] = {}
    for row in rows_of(args.data / f"qrels_{split}.jsonl.gz"):
        if row["score"] > 0:
            relevant.setdefault(str(row["query_id"]), set()).add(str(row["doc_id"]))
    words, ids = Words(list(texts.values()), "english"), list(texts)
    found = []
    for query, right in relevant.items():
        best = [ids[place] for place in np.argsort(-words.scores(asked[query]), kind="stable")[: args.top]]
        own = {"labels": [int(each in right) for each in best], "relevant": [texts[each] for each in sorted(right)]}
        found.append({"query": asked[query], "texts": [texts[each] for each in best], **own})
    return found


def cross_encoder(args: argparse.Namespace) -> Scores:
    """The reranker, trained if it is not."""
    import bothways as bw

    out = args.out / "run"
    if args.reranker is None and not (out / "model").is_dir():
        rows = []
        for row in claims(args, "train"):
            wrong = [text for text, label in zip(row["texts"], row["labels"], strict=True) if not label]
            rows.append({"query": row["query"], "positives": row["relevant"], "negatives": wrong[:NEGATIVES]})
        settings = LISTS | {"epochs": args.epochs, "learning_rate": 2e-4, "reads": "mean"}
        bw.finetune("rerank", base=args.base, train=rows[DEV:], dev=rows[:DEV], out=out, **settings)
    model = bw.load(args.reranker or out, precision="auto", truncation="head")
    return lambda rows: [model.score_pairs([row["query"]] * len(row["texts"]), row["texts"]) for row in rows]


def bi_encoder(args: argparse.Namespace, asked: list[dict[str, Any]]) -> Scores:
    """The base's cosines; vectors of abstracts are made before the clock starts."""
    import bothways as bw

    model = bw.load(args.base, precision="auto", truncation="head")
    texts = list(dict.fromkeys(text for row in asked for text in row["texts"]))
    vectors = dict(zip(texts, model.embed(texts, normalize=True), strict=True))

    def scores(rows: list[dict[str, Any]]) -> list[np.ndarray]:
        own = model.embed([row["query"] for row in rows], normalize=True)
        return [np.stack([vectors[text] for text in row["texts"]]) @ one for row, one in zip(rows, own, strict=True)]

    return scores


def measured(scores: Scores, asked: list[dict[str, Any]]) -> dict[str, float]:
    """How good an order is, and how long it takes."""
    scores(asked[:1])
    began = time.perf_counter()
    found = [scores([row])[0] for row in asked]
    seconds = (time.perf_counter() - began) / len(asked)
    discounts = 1 / np.log2(np.arange(2, 12))
    ndcg, mrr = [], []
    for row, own in zip(asked, found, strict=True):
        gains = np.array(row["labels"])[np.argsort(-own, kind="stable")][:10]
        ndcg.append(gains @ discounts[: len(gains)] / discounts[: len(row["relevant"])].sum())
        mrr.append(1 / (1 + int(gains.argmax())) if gains.any() else 0.0)
    return {"ndcg": float(np.mean(ndcg)), "mrr": float(np.mean(mrr)), "seconds": seconds, "claims": len(asked)}


if __name__ == "__main__":
    main()
