"""Explanations as one HTML page: words coloured by what they add. The page needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bothways.errors import need
from bothways.report.writing import write_whole

_MOST = 75
"""Per cent of a colour that the heaviest word of a text gets."""


def write_explanations(path: str | Path, title: str, found: Sequence[Mapping[str, Any]]) -> Path:
    """Writes the page, whole or not at all.

    Args:
        path: The HTML file.
        title: What stands above it.
        found: Explanations as plain data (`bothways.use.explain.explanation.Explanation`), each with its ``texts``.

    Returns:
        The path.

    Raises:
        BothwaysError: The file cannot be written.
    """
    jinja2 = need("jinja2", "torch", "The page")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("bothways", "report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    shown = [_shown(one) for one in found]
    text = environment.get_template("explanation.html.j2").render(title=title, explanations=shown)
    return write_whole(path, text, "the page")


def note(one: Mapping[str, Any]) -> str:
    """What the weights of an explanation are, in a sentence."""
    unit = "" if one["unit"] == one["said"] else f" in {one['unit']}"
    said = f"{one['value']:+.3f}{unit}, with every word masked {one['baseline']:+.3f}; weights by {one['way']}"
    if one["error"] is not None:
        said += f", which add up to the difference within {one['error']:.1%}"
    return said + (f"; {one['cut']:,} tokens at the end were not read" if one["cut"] else "")


def _shown(one: Mapping[str, Any]) -> dict[str, Any]:
    heaviest = max((abs(word["weight"]) for word in one["words"]), default=0.0) or 1.0
    sides = [
        list(_parts(text, [word for word in one["words"] if word["source"] == side], heaviest))
        for side, text in enumerate(one["texts"])
    ]
    return {"said": one["said"], "told": f"{one['told']:.3f}", "sides": sides, "note": note(one)}


def _parts(text: str, words: Sequence[Mapping[str, Any]], heaviest: float) -> Any:
    at = 0
    for word in words:
        yield {"text": text[at : word["start"]], "kind": ""}
        kind, much = "for" if word["weight"] >= 0 else "against", _MOST * abs(word["weight"]) / heaviest
        yield {
            "text": text[word["start"] : word["end"]],
            "kind": kind,
            "much": round(much),
            "weight": f"{word['weight']:+.3f}",
        }
        at = word["end"]
    yield {"text": text[at:], "kind": ""}
