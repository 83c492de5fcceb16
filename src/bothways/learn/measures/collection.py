"""A test collection: documents, queries, and which documents answer which query.

Shapes: M documents, N queries.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.text.kept import Texts
from bothways.text.rows import read_rows

_IDS = ("id", "_id")
_QUERY_IDS = ("query_id", "query-id", "qid")
_DOCUMENT_IDS = ("doc_id", "corpus-id", "corpus_id", "docid", "pid")
_ENDINGS = r"\.(jsonl|csv|tsv|parquet)(\.(gz|zst|bz2|xz))?"


@dataclass(frozen=True)
class Collection:
    """A test collection.

    Attributes:
        document_ids: M of them.
        documents: Their texts, a title before the rest.
        query_ids: N of them, those that are judged.
        queries: Their texts.
        relevance: For each judged query how relevant documents are, by their ids.
        name: Where it came from.
    """

    document_ids: Sequence[str]
    documents: Sequence[str]
    query_ids: Sequence[str]
    queries: Sequence[str]
    relevance: Mapping[str, Mapping[str, int]]
    name: str


def is_collection(source: Any) -> bool:
    """Whether a source is a folder with a corpus and queries."""
    if isinstance(source, Collection):
        return True
    return isinstance(source, str | Path) and Path(source).is_dir() and _found(Path(source), "corpus") is not None


def read_collection(source: Any, split: str | None = None) -> Collection:
    """Reads a folder in the layout of BEIR (Thakur et al. 2021), or with judgements beside the texts.

    The folder holds ``corpus`` (``id``, ``title``, ``text``), ``queries`` (``id``, ``text``) and judgements (query,
    document, score) as ``qrels_SPLIT`` or ``qrels/SPLIT``, each .jsonl, .csv, .tsv or .parquet, compressed or not.

    Args:
        source: The folder.
        split: Which judgements; None takes ``test``, or the only ones there are.

    Raises:
        BothwaysError: A file or column is missing, or judgements name texts that are not there.
    """
    if isinstance(source, Collection):
        return source
    folder = Path(source)
    corpus, queries = _found(folder, "corpus"), _found(folder, "queries")
    if corpus is None or queries is None:
        raise BothwaysError(
            f"{folder} is no test collection: it has no {'queries' if corpus else 'corpus'} file (.jsonl)"
        )
    qrels = _judgements(folder, split)
    relevance = _relevance(qrels)
    document_ids, documents = _texts(corpus)
    all_ids, all_queries = _texts(queries)
    places = {name: place for place, name in enumerate(all_ids)}
    if unknown := [query for query in relevance if query not in places]:
        raise BothwaysError(f"{qrels} judges the query {unknown[0]!r}, which {queries.name} does not hold")
    known = set(document_ids)
    right = {document for judged in relevance.values() for document, score in judged.items() if score > 0}
    if unknown := sorted(right - known):
        raise BothwaysError(f"{qrels} names the document {unknown[0]!r}, which {corpus.name} does not hold")
    chosen = [name for name in all_ids if name in relevance]
    return Collection(
        document_ids, documents, chosen, all_queries.take([places[name] for name in chosen]), relevance, folder.name
    )


def _found(folder: Path, name: str) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if re.fullmatch(name + _ENDINGS, path.name)), None)


def _judgements(folder: Path, split: str | None) -> Path:
    found = {}
    for path in [*sorted(folder.iterdir()), *sorted((folder / "qrels").glob("*"))]:
        named = re.fullmatch(("" if path.parent.name == "qrels" else "qrels_?") + r"(\w*)" + _ENDINGS, path.name)
        if named:
            found[named[1] or "all"] = path
    if not found:
        raise BothwaysError(f"{folder} says nowhere which documents answer which query; expected qrels_test.jsonl")
    wanted = split or ("test" if "test" in found else next(iter(found)))
    if wanted not in found or (split is None and wanted != "test" and len(found) > 1):
        asked = f"has no judgements {split!r}" if split else "has several judgements"
        raise BothwaysError(f"{folder} {asked}: choose with --split {' or '.join(found)}{closest(wanted, found)}")
    return found[wanted]


def _relevance(path: Path) -> dict[str, dict[str, int]]:
    rows = read_rows(path)
    query, document = (_column(rows.columns, names, path) for names in (_QUERY_IDS, _DOCUMENT_IDS))
    score = _column(rows.columns, ("score", "relevance", "label"), path)
    found: dict[str, dict[str, int]] = {}
    for where, row in rows.located():
        try:
            value = float(row[score])
            if value != int(value):
                raise ValueError(value)
            found.setdefault(str(row[query]), {})[str(row[document])] = int(value)
        except (KeyError, OverflowError, TypeError, ValueError):
            raise BothwaysError(f"{where} lacks a query, a document or a whole number as its score") from None
    relevant = {name: judged for name, judged in found.items() if any(value > 0 for value in judged.values())}
    if not relevant:
        raise BothwaysError(f"{path} names no relevant document")
    return relevant


def _texts(path: Path) -> tuple[list[str], Texts]:
    rows = read_rows(path)
    name, text = _column(rows.columns, _IDS, path), _column(rows.columns, ("text", "contents", "body"), path)
    ids, texts = [], Texts()
    for where, row in rows.located():
        if row.get(name) is None:
            raise BothwaysError(f"{where} has no {name}")
        ids.append(str(row[name]))
        texts.append(" ".join(str(part) for part in (row.get("title"), row.get(text)) if part))
    if len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(each for each in ids if each in seen or seen.add(each))  # type: ignore[func-returns-value]
        raise BothwaysError(f"{path} holds the id {twice!r} twice")
    return ids, texts


def _column(columns: Sequence[str], names: Sequence[str], path: Path) -> str:
    for name in names:
        if name in columns:
            return name
    raise BothwaysError(f"{path} has no column {' or '.join(names)}; it has {', '.join(columns)}")
