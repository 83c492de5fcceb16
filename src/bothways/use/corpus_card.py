"""The data card of a corpus, as plain data: what was read, what was left out and why, what is left."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bothways.text.cleaning.evaluation import Evaluation, examples, runs_of
from bothways.text.cleaning.rules import OTHERS, QUALITY
from bothways.text.cleaning.sift import LENGTHS, Kept
from bothways.text.cleaning.tidy import STEPS
from bothways.text.cleaning.wash import Figures
from bothways.text.files import find_files
from bothways.text.shards import Corpus

_SAMPLE = 3  # examples shown of each evaluation file
_SHOWN = 200  # characters of such an example
_LOOKED_AT = 1 << 20  # documents whose lengths are read at once


def cleaned_card(recipe: dict[str, Any], figures: Figures, kept: Kept, sources: Sequence[str]) -> dict[str, Any]:
    """The card of a cleaned corpus.

    Args:
        recipe: How it was cleaned.
        figures: What was counted.
        kept: What is left.
        sources: The names of the sources.

    Returns:
        ``read`` and ``documents`` (how many), ``words``, ``characters``; ``sources`` with their shares of the text;
        ``changed`` and ``removed``: for each step and rule ``name``, ``what``, ``documents`` and ``samples``;
        ``duplicates``; ``lines``, shared ones that were taken out; ``languages``; ``lengths``: documents by words;
        ``samples``; ``recipe``.
    """
    reasons = {**{name: rule.what for name, rule in QUALITY.items()}, **OTHERS}
    applied = [name for name in reasons if name not in recipe["skip"] and (name not in OTHERS or figures.removed[name])]
    whole = max(1, sum(kept.sources))
    return {
        "recipe": recipe,
        "read": figures.read,
        "characters_read": figures.characters,
        "documents": kept.documents,
        "words": kept.words,
        "characters": kept.characters,
        "sources": [
            {"name": name, "characters": count, "share": count / whole}
            for name, count in zip(sources, kept.sources, strict=True)
        ],
        "changed": [{"name": name, "what": what, "documents": figures.changed[name]} for name, what in STEPS.items()],
        "removed": [
            {
                "name": name,
                "what": reasons[name],
                "documents": figures.removed[name],
                "samples": figures.samples.get(name, []) if figures.removed[name] else [],
            }
            for name in applied
        ],
        "duplicates": {"exact": figures.removed["exact duplicate"], "near": figures.removed["near duplicate"]},
        "overlapping": figures.overlapping,
        "lines": kept.lines,
        "languages": dict(figures.languages.most_common()),
        "lengths": _histogram(kept.lengths),
        "length_unit": "words",
        "samples": kept.samples,
    }


def _histogram(counts: Sequence[int]) -> list[dict[str, int]]:
    """Counts with the ends of their bins, empty ones at both ends left out."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return []
    ends = [*(begin - 1 for begin in LENGTHS[1:]), 0]
    return [
        {"from": LENGTHS[place], "to": ends[place], "documents": int(counts[place])}
        for place in range(int(filled[0]), int(filled[-1]) + 1)
    ]


def overlaps(judged: Evaluation | None, given: Sequence[str | Path], hits: set[str]) -> list[dict[str, Any]]:
    """How much of each evaluation file stands in a corpus.

    Args:
        judged: The files, read; None for none.
        given: Their paths.
        hits: The runs that were found, ``"length place"``.

    Returns:
        For each file ``name``, ``examples``, ``short`` (too short to look for), ``found``, and ``samples`` of those.
    """
    if judged is None:
        return []
    places: dict[int, list[int]] = {}
    for hit in hits:
        length, place = map(int, hit.split())
        places.setdefault(length, []).append(place)
    found_runs = {length: judged.grams[length][np.array(sorted(some))] for length, some in places.items()}
    told = []
    for path in (path for one in given for path in find_files(one)):
        seen: dict[int, bool] = {}  # by row: a row counts once, whatever texts it has
        long: set[int] = set()
        samples: list[str] = []
        for number, text in examples(path):
            seen.setdefault(number, False)
            runs = runs_of(text, judged.run)
            if runs:
                long.add(number)
            if any(length in found_runs and np.isin(here, found_runs[length]).any() for length, here in runs.items()):
                if not seen[number] and len(samples) < _SAMPLE:
                    samples.append(text[:_SHOWN])
                seen[number] = True
        told.append(
            {
                "name": Path(path).name,
                "examples": len(seen),
                "short": len(seen) - len(long),
                "found": sum(seen.values()),
                "samples": samples,
            }
        )
    return told


def with_tokens(card: dict[str, Any], corpus: Corpus) -> dict[str, Any]:
    """A card with what the tokens tell.

    Args:
        card: Of the cleaned text; empty where it was not cleaned.
        corpus: The prepared corpus.
    """
    index = corpus.index
    words, characters = index.total("words"), index.total("characters")
    counts = np.zeros(len(LENGTHS), np.int64)
    for begin in range(0, corpus.documents, _LOOKED_AT):
        starts = corpus.sentence_starts[corpus.document_starts[begin : begin + _LOOKED_AT + 1]]
        bins = np.searchsorted(LENGTHS, np.diff(starts), side="right") - 1
        counts += np.bincount(bins, minlength=len(LENGTHS))
    own = {
        "documents": corpus.documents,
        "sentences": corpus.sentences,
        "tokens": corpus.tokens,
        "words": words,
        "characters": characters,
        "vocabulary": corpus.tokenizer.size,
        "fertility": corpus.tokens / max(words, 1),
        "characters_per_token": characters / max(corpus.tokens, 1),
        "unknown_rate": index.total("unknown") / max(corpus.tokens, 1),
        "lengths": _histogram(counts.tolist()),
        "length_unit": "tokens",
        "fingerprint": corpus.fingerprint,
    }
    samples = card.get("samples") or _samples(corpus)
    return {**card, **own, "samples": samples}


def _samples(corpus: Corpus) -> list[dict[str, str]]:
    numbers = np.unique(np.linspace(0, corpus.documents - 1, 8).astype(int))
    return [
        {"name": f"document {number + 1:,}", "text": corpus.tokenizer.decode(corpus.document(int(number))[:120])}
        for number in numbers
    ]
