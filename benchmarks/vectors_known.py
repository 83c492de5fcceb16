"""Known numbers of published sentence models, from Bothways and from sentence-transformers in the same run.

- all-MiniLM-L6-v2 and all-mpnet-base-v2 on the test sets of STS-B (Spearman) and SciFact (nDCG@10).
- multilingual-e5-small, from 4-bit weights (`e5_folder.py`), on translations of STS-B and on Tatoeba.

Each side measures with its own code: Bothways with ``bw.evaluate``, the other with its evaluators. How far vectors of
the same texts are apart is measured too.

    python benchmarks/vectors_known.py --out runs/known --minilm FOLDER --mpnet FOLDER --e5 FOLDER

The work is done in cells, a line each in ``--out``; one that was interrupted is done again, finished ones are kept.
``--cells`` ends after so many, ``--only`` takes those whose name holds one of the words given.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from real_run import SHARED

STS = ("de", "es", "fr", "zh")
TATOEBA = ("deu", "fra", "cmn", "jpn", "tur")
OURS, THEIRS = "bothways", "sentence-transformers"
PUBLISHED = {"MiniLM stsb": 0.8203, "mpnet stsb": 0.8342, "MiniLM scifact": 0.6451, "mpnet scifact": 0.6557}
"""By MTEB, of float32 weights."""

Score = Callable[[], dict[str, Any]]


def main() -> None:
    """Does the next cells and prints the table so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with stsb, scifact, stsb-multi, tatoeba")
    parser.add_argument("--out", type=Path, default=Path("runs/known"))
    parser.add_argument("--minilm", type=Path, help="all-MiniLM-L6-v2")
    parser.add_argument("--mpnet", type=Path, help="all-mpnet-base-v2")
    parser.add_argument("--e5", type=Path, help="multilingual-e5-small")
    parser.add_argument("--cells", type=int, help="so many and no more")
    parser.add_argument("--only", nargs="*", help="words in the names of cells")
    args = parser.parse_args()

    args.out.mkdir(parents=True, exist_ok=True)
    kept = args.out / "cells.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    left = math.inf if args.cells is None else args.cells
    for name, work in cells(args):
        wanted = not args.only or any(word in name for word in args.only)
        if left < 1 or not wanted or any(cell["cell"] == name for cell in done):
            continue
        began = time.monotonic()
        done.append({"cell": name, **work(), "seconds": round(time.monotonic() - began, 1)})
        with kept.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        left -= 1
    print(table(done))


def cells(args: argparse.Namespace) -> Iterator[tuple[str, Score]]:
    """The names of all cells, and what each does: cheap ones first."""
    models = {"MiniLM": args.minilm, "mpnet": args.mpnet}
    for data in ("stsb", "scifact"):
        for name, folder in models.items():
            if folder is None:
                continue
            source = args.data / data / "test.jsonl.gz" if data == "stsb" else args.data / data
            yield f"{name} {data} {OURS}", lambda folder=folder, source=source: ours(folder, source)
            other = their_sts if data == "stsb" else their_search
            yield f"{name} {data} {THEIRS}", lambda folder=folder, source=source, other=other: other(folder, source)
    for language in () if args.e5 is None else STS:
        source = args.data / "stsb-multi" / f"{language}-test.jsonl.gz"
        yield f"e5 stsb-{language} {OURS}", lambda source=source: ours(args.e5, source)
        yield f"e5 stsb-{language} {THEIRS}", lambda source=source: their_sts(args.e5, source)
    for language in () if args.e5 is None else TATOEBA:
        source = args.data / "tatoeba" / f"{language}-eng.jsonl.gz"
        yield f"e5 tatoeba-{language} {OURS}", lambda source=source: ours(args.e5, source)
        yield f"e5 tatoeba-{language} {THEIRS}", lambda source=source: their_bitext(args.e5, source)


def ours(folder: Path, source: Path) -> dict[str, Any]:
    """What Bothways measures."""
    import bothways as bw

    found = bw.evaluate(str(folder), str(source), device="cpu")
    return {"score": found["scores"][found["main"]], "metric": found["main"]}


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def theirs(folder: Path) -> Any:
    """The model in sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu")


def apart(folder: Path, model: Any, texts: list[str]) -> float:
    """The largest difference of any number in the vectors of the first texts."""
    import bothways as bw

    some = texts[:200]
    return float(np.abs(bw.load(folder, device="cpu").embed(some) - model.encode(some, batch_size=32)).max())


def their_sts(folder: Path, source: Path) -> dict[str, Any]:
    """What their evaluator of similarity says."""
    from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

    pairs, model = rows(source), theirs(folder)
    a, b, scores = ([row[name] for row in pairs] for name in ("text_a", "text_b", "score"))
    found = EmbeddingSimilarityEvaluator(a, b, scores, write_csv=False, main_similarity="cosine")(model)
    return {"score": float(found["spearman_cosine"]), "apart": apart(folder, model, a)}


def their_search(folder: Path, source: Path) -> dict[str, Any]:
    """What their evaluator of retrieval says."""
    from sentence_transformers.evaluation import InformationRetrievalEvaluator

    corpus = {str(row["id"]): f"{row['title']} {row['text']}" for row in rows(source / "corpus.jsonl.gz")}
    relevant: dict[str, set[str]] = {}
    for row in rows(source / "qrels_test.jsonl.gz"):
        if row["score"] > 0:
            relevant.setdefault(str(row["query_id"]), set()).add(str(row["doc_id"]))
    queries = {str(row["id"]): row["text"] for row in rows(source / "queries.jsonl.gz") if str(row["id"]) in relevant}
    model = theirs(folder)
    evaluator = InformationRetrievalEvaluator(
        queries, corpus, relevant, write_csv=False, show_progress_bar=True, score_functions={"cosine": model.similarity}
    )
    return {"score": float(evaluator(model)["cosine_ndcg@10"]), "apart": apart(folder, model, list(corpus.values()))}


def their_bitext(folder: Path, source: Path) -> dict[str, Any]:
    """What their evaluator of translations says: the mean of both directions."""
    from sentence_transformers.evaluation import TranslationEvaluator

    pairs, model = rows(source), theirs(folder)
    a, b = ([row[name] for row in pairs] for name in ("text_a", "text_b"))
    found = TranslationEvaluator(a, b, write_csv=False)(model)
    both = float(found["src2trg_accuracy"] + found["trg2src_accuracy"]) / 2
    return {"score": both, "apart": apart(folder, model, a)}


def table(done: list[dict[str, Any]]) -> str:
    """The cells as a table: a row a model and data set."""
    by_name = {cell["cell"]: cell for cell in done}
    lines = [
        "| model, data | Bothways | sentence-transformers | difference | vectors differ by | published |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(cell["cell"].rsplit(" ", 1)[0] for cell in done):
        mine, other = by_name.get(f"{name} {OURS}"), by_name.get(f"{name} {THEIRS}")
        scores = [f"{cell['score']:.4f}" if cell else "" for cell in (mine, other)]
        difference = f"{abs(mine['score'] - other['score']):.1e}" if mine and other else ""
        vectors = f"{other['apart']:.0e}" if other else ""
        lines.append(f"| {name} | {' | '.join(scores)} | {difference} | {vectors} | {PUBLISHED.get(name, '')} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
