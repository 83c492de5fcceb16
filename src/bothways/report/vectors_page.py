"""What is said of vectors, from plain data: what they are worth, and how they lie."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
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
    said = f"{one['name']}: vectors {lies} (random pairs have a mean cosine of {cosine:z.2f}"
    if "pair_cosine" not in one:
        return said + ")."
    apart = one["pair_cosine"] - cosine
    told = f"{apart:.2f} more" if apart >= _EVEN else "so the cosine hardly tells them apart"
    return f"{said}, those that belong together of {one['pair_cosine']:z.2f}, {told})."


def inspected_page(data: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The page of how vectors lie, as `bothways.report.page.write_page` takes it.

    Args:
        data: What the texts are called.
        found: As `bothways.learn.inspect_vectors.inspect_vectors` gives it.
    """
    columns, rows = inspected_rows(found)
    results = [
        {
            "name": row[0],
            "value": "; ".join(f"{name}: {_figure(v)}" for name, v in zip(columns[1:], row[1:], strict=True)),
        }
        for row in rows
    ]
    return {
        "title": f"Vectors of {found[0]['texts']:,} texts of {data}",
        "summary": " ".join(inspected_sentences(found)),
        "curves": {
            "charts": [
                {
                    "title": "How alike random pairs of texts are",
                    "lines": _lines(found, _cosines),
                    "unit": "share of pairs",
                    "scale": "percent",
                    "axis": "cosine, in hundredths",
                },
                {
                    "title": "Variance in the strongest directions",
                    "lines": _lines(found, _cumulative),
                    "unit": "share of the variance",
                    "scale": "percent",
                    "axis": "directions",
                },
            ],
            "note": "Vectors that point everywhere have cosines around 0; in a cone all pairs look alike, and few "
            "directions hold most of the variance.",
        },
        "results": results,
    }


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.3f}"


def _lines(found: Sequence[Mapping[str, Any]], points: Callable[[Mapping[str, Any]], Any]) -> list[dict[str, Any]]:
    looks = itertools.cycle(("first", "second", "ink", "muted"))
    return [
        {"name": one["name"], "look": "plain", "colour": colour, "points": points(one)}
        for one, colour in zip(found, looks, strict=False)
    ]


def _cosines(one: Mapping[str, Any]) -> list[tuple[float, float]]:
    wide = 200 / len(one["cosines"])
    return [(-100 + wide * (place + 0.5), share) for place, share in enumerate(one["cosines"])]


def _cumulative(one: Mapping[str, Any]) -> list[tuple[int, float]]:
    return list(enumerate(itertools.accumulate(one["spectrum"]), start=1))
