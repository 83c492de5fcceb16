"""What is said of vectors, from plain data: what they are worth, and how they lie."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
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


_LOOKED_AT = {
    "mean_cosine": "mean cosine of random pairs",
    "pair_cosine": "mean cosine of pairs that belong together",
    "uniformity": "uniformity",
    "alignment": "alignment",
    "first": "variance in the first direction",
    "directions": "directions with 90 % of the variance",
    "effective_rank": "effective rank",
    "spearman": "Spearman",
}
_CONE, _EVEN = 0.5, 0.2
"""From which mean cosine on vectors lie in a cone, and below which they point everywhere."""


def inspected_rows(found: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """Columns, a model each, and a row a measure: those that any model has."""
    rows = [
        [said, *(one.get(name) for one in found)]
        for name, said in _LOOKED_AT.items()
        if any(name in one for one in found)
    ]
    return ["", *(one["name"] for one in found)], rows


def inspected_sentences(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be seen, in words, a sentence a model."""
    return [_seen(one) for one in found]


def _seen(one: Mapping[str, Any]) -> str:
    cosine = one["mean_cosine"]
    lies = "lie in a narrow cone" if cosine >= _CONE else "point everywhere" if cosine < _EVEN else "lie in a wide cone"
    said = f"{one['name']}: vectors {lies} (random pairs have a mean cosine of {cosine:.2f}"
    if "pair_cosine" not in one:
        return said + ")."
    gap = one["pair_cosine"] - cosine
    told = "which tells them apart" if gap >= _EVEN else "so the cosine hardly tells them apart"
    return f"{said}, those that belong together of {one['pair_cosine']:.2f}), {told}."


def inspected_page(data: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The page of how vectors lie, as `bothways.report.page.write_page` takes it.

    Args:
        data: What the texts are called.
        found: As `bothways.learn.inspect_vectors.inspect_vectors` gives it.
    """
    columns, rows = inspected_rows(found)
    bins = len(found[0]["cosines"])
    groups = [f"{-1 + 2 * place / bins:.1f}" for place in range(bins)]
    spectrum = [
        {"name": one["name"], "look": "layer", "colour": colour, "strength": strength, "points": _cumulative(one)}
        for one, (colour, strength) in zip(found, _looks(), strict=False)
    ]
    results = [
        {"name": f"{name}: {row[0]}", "value": f"{value:,}" if isinstance(value, int) else f"{value:.3f}"}
        for name, place in zip(columns[1:], range(1, len(columns)), strict=True)
        for row in rows
        if (value := row[place]) is not None
    ]
    return {
        "title": f"Vectors of {found[0]['texts']:,} texts of {data}",
        "summary": " ".join(inspected_sentences(found)),
        "bars": {
            "charts": [
                {
                    "title": "How alike random pairs of texts are",
                    "groups": groups,
                    "bars": [{"name": one["name"], "values": one["cosines"]} for one in found],
                    "axis": "cosine, from",
                    "unit": "share of pairs",
                }
            ],
            "note": "Vectors that point everywhere have cosines around 0; in a cone all pairs look alike.",
        },
        "curves": {
            "charts": [
                {
                    "title": "Variance in the strongest directions",
                    "lines": spectrum,
                    "unit": "share of the variance",
                    "scale": "percent",
                    "axis": "directions",
                }
            ]
        },
        "results": results,
    }


def _looks() -> Iterator[tuple[str, float]]:
    return itertools.cycle([("first", 1.0), ("second", 1.0), ("ink", 0.8), ("muted", 1.0)])


def _cumulative(one: Mapping[str, Any]) -> list[tuple[int, float]]:
    return list(enumerate(itertools.accumulate(one["spectrum"]), start=1))
