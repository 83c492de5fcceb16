"""The page of an adapted model: gain and forgetting side by side, and how the vocabulary suits. Plain data only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bothways.report.page import percent

Result = Mapping[str, Any]

_NAMES = {"domain": "text of the domain", "general": "general text"}


def adaptation_page(result: Result) -> dict[str, Any]:
    """The data of the page.

    Args:
        result: What ``adaptation.json`` holds.
    """
    check = result["check"]
    return {
        "title": "Adapted to a domain",
        "summary": summary(result),
        "seconds": result.get("seconds"),
        "facts": [
            {"name": f"bits a character, {_NAMES[name]}", "value": f"{_bits(result, 'after', name):.3f}"}
            for name in result["after"]
        ],
        "results": [
            {
                "name": f"bits a character, {_NAMES[name]}",
                "value": f"{_bits(result, 'before', name):.3f} before, {_bits(result, 'after', name):.3f} after, on "
                f"{result['after'][name]['words']:,} masked words",
            }
            for name in result["after"]
        ]
        + [
            {"name": f"words that cannot be spelled, {_NAMES[name]}", "value": f"{result['after'][name]['unknown']:,}"}
            for name in result["after"]
        ],
        "vocabulary": {
            "fertility": check["domain"],
            "unknown_rate": check["unknown"],
            "samples": [
                {"text": f"{word}, {count:,} times", "tokens": pieces} for word, pieces, count in check["words"][:10]
            ],
        },
        "settings": [
            {"name": "vocabulary", "value": _vocabulary(result)},
            {"name": "the check says", "value": check["verdict"]},
            {"name": "tokens a word of general text", "value": _fertility(check["general"])},
            {"name": "share of general text replayed", "value": percent(result["replay"])},
            {"name": "highest learning rate", "value": f"{result['learning_rate']:g}"},
            {"name": "steps", "value": f"{result['steps'] or 0:,} of {result['batch_tokens']:,} tokens"},
            {"name": "base", "value": str(result["base"]).rsplit("/", 1)[-1]},
        ],
    }


def summary(result: Result) -> str:
    """What was gained, and what it cost, in words."""
    before, after = (_bits(result, when, "domain") for when in ("before", "after"))
    told = f"The domain's words cost {after:.3f} bits a character instead of {before:.3f}: {_change(before, after)}."
    if "general" not in result["after"]:
        return f"{told} What was forgotten was not measured: no general text was given."
    before, after = (_bits(result, when, "general") for when in ("before", "after"))
    verb = "forgotten" if after > before else "gained too"
    return f"{told} On general text {after:.3f} instead of {before:.3f}: {_change(before, after)} {verb}."


def _change(before: float, after: float) -> str:
    return f"{abs(after / before - 1):.1%} {'less' if after < before else 'more'}"


def _bits(result: Result, when: str, name: str) -> float:
    return float(result[when][name]["bits_per_character"])


def _vocabulary(result: Result) -> str:
    check, kind = result["check"], result["vocabulary"]
    if kind == "extend":
        told = ", ".join(check["examples"][:8])
        return f"{check['added']:,} words added ({told} ...): {check['extended']:.2f} tokens a word"
    return {"keep": "kept", "own": "the domain's own, from random weights"}[kind]


def _fertility(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.2f}"
