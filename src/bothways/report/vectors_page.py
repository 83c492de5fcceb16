"""What is said of vectors, from plain data: what they are worth, and how they lie."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {"spearman": "Spearman", "pearson": "Pearson", "ap": "average precision", "f1": "F1", "map": "MAP"}
_NAMES |= {"v_measure": "V-measure", "ari": "adjusted Rand index", "nmi": "normalised mutual information"}
_COUNTED = {"retrieval": "queries", "reranking": "queries", "clustering": "texts"}


def named(score: str) -> str:
    """The name of a score as people know it."""
    for metric, known in (("ndcg@", "nDCG@"), ("mrr@", "MRR@")):
        if score.startswith(metric):
            return known + score.removeprefix(metric)
    return _NAMES.get(score, score)


def measured_rows(found: Mapping[str, Any]) -> list[tuple[str, float, str | None]]:
    """A row a score: its name, its value, and its interval where there is one."""
    ends = found["interval"]
    spread = None if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
    return [(named(name), value, spread if name == found["main"] else None) for name, value in found["scores"].items()]


def measured_sentence(found: Mapping[str, Any]) -> str:
    """One sentence: which model did how well at what."""
    counted = f"{found['examples']:,} {_COUNTED.get(found['measure'], 'pairs')}"
    among = f" among {found['documents']:,} documents" if "documents" in found else ""
    value = found["scores"][found["main"]]
    return (
        f"{found['model']} on {found['data']}: {named(found['main'])} {value:.4f} on {counted}{among}, by "
        f"{found['similarity']} of {found['dims']} values ({found['pooling']})."
    )


def measured_page(found: Mapping[str, Any]) -> dict[str, Any]:
    """The page of a measurement, as `bothways.report.page.write_page` takes it.

    Args:
        found: As `bothways.learn.measures.evaluate.evaluate_vectors` gives it.
    """
    rows = [
        {"name": name, "value": f"{value:.4f}" + (f" ({spread})" if spread else "")}
        for name, value, spread in measured_rows(found)
    ]
    facts = [
        {"name": name, "value": f"{found[name]:,}"}
        for name in ("examples", "documents", "texts", "classes")
        if name in found
    ]
    return {
        "title": f"{found['measure']}: {found['model']} on {found['data']}",
        "summary": measured_sentence(found),
        "seconds": found["seconds"],
        "facts": facts,
        "results": rows,
    }
