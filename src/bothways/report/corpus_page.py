"""The page of a corpus, its data card: from what ``card.json`` says to the data that `page` shows. Plain data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bothways.report.judgement_page import without_folders
from bothways.report.page import percent, whole

Card = Mapping[str, Any]

_LANGUAGES = 6  # of them are named


def corpus_page(card: Card) -> dict[str, Any]:
    """The data of the page.

    Args:
        card: As `bothways.use.corpus_card` makes it; of a corpus that was not cleaned without what cleaning tells, of
            one without tokens without what they tell.
    """
    lengths = card["lengths"]
    most = max((row["documents"] for row in lengths), default=1)
    return {
        "title": "Data card",
        "summary": summary(card),
        "facts": _facts(card),
        "card": {
            "sources": _shares(card.get("sources", [])),
            "languages": _languages(card.get("languages", {})),
            "lengths": [
                {
                    "label": f"{row['from']:,} to {row['to']:,}" if row["to"] else f"{row['from']:,} and more",
                    "documents": row["documents"],
                    "width": round(100 * row["documents"] / most, 2),
                }
                for row in lengths
            ],
            "unit": card["length_unit"],
            "tokens": _tokens(card),
            "changed": card.get("changed", []),
            "removed": [
                {**row, "samples": [_shown(sample) for sample in row["samples"]]} for row in card.get("removed", [])
            ],
            "read": card.get("read"),
            "lines": card.get("lines", 0),
            "shared_by": card.get("recipe", {}).get("shared_by"),
            "overlaps": [{**row, "share": row["found"] / max(row["examples"], 1)} for row in card.get("overlaps", [])],
            "overlapping": card.get("overlapping", 0),
            "decontaminated": card.get("recipe", {}).get("decontaminate", False),
            "run": card.get("recipe", {}).get("overlap"),
            "samples": [_shown(sample) for sample in card["samples"]],
        },
        "settings": [
            {"name": name.replace("_", " "), "value": _said(value)} for name, value in card.get("recipe", {}).items()
        ],
    }


def summary(card: Card) -> str:
    """In a sentence: how much text there is, and how much of what was read that is."""
    told = f"{card['documents']:,} documents with {card['words']:,} words"
    if "tokens" in card:
        told += f" in {card['tokens']:,} tokens"
    if "read" not in card:
        return f"{told}, as they were."
    kept = card["documents"] / max(card["read"], 1)
    copies = sum(card["duplicates"].values())
    return (
        f"{told}: {percent(kept)} of the {card['read']:,} documents that were read. "
        f"Left out: {copies:,} as copies of others, {card['read'] - card['documents'] - copies:,} by rules."
    )


def _facts(card: Card) -> list[dict[str, str]]:
    names = ("documents", "sentences", "words", "tokens")
    return [{"name": name, "value": whole(card[name])} for name in names if name in card]


def _tokens(card: Card) -> list[dict[str, str]]:
    if "tokens" not in card:
        return []
    return [
        {"name": "tokens in the vocabulary", "value": whole(card["vocabulary"])},
        {"name": "tokens a word", "value": f"{card['fertility']:.2f}"},
        {"name": "characters a token", "value": f"{card['characters_per_token']:.2f}"},
        {"name": "unknown tokens", "value": percent(card["unknown_rate"], 3)},
        {"name": "sentences a document", "value": f"{card['sentences'] / max(card['documents'], 1):.1f}"},
    ]


def _shares(sources: Sequence[Card]) -> list[dict[str, str]]:
    if len(sources) < 2:
        return []
    return [
        {"name": row["name"], "value": f"{percent(row['share'])} of the text, {row['characters']:,} characters"}
        for row in sources
    ]


def _languages(found: Mapping[str, int]) -> str:
    everything = sum(found.values())
    if not everything:
        return ""
    often = sorted(found.items(), key=lambda item: -item[1])[:_LANGUAGES]
    told = ", ".join(f"{code} {percent(count / everything)}" for code, count in often)
    return f"{told} (documents long enough to tell: {everything:,})"


def _shown(sample: Mapping[str, str]) -> dict[str, str]:
    """A sample without the folders of the machine that read it."""
    name, colon, text = sample.get("why", "").partition(": ")
    return {**sample, "name": without_folders(sample["name"]), "why": without_folders(name) + colon + text}


def _said(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return (
        {None: "none", True: "yes", False: "no"}.get(value, str(value))
        if not isinstance(value, float)
        else f"{value:g}"
    )
