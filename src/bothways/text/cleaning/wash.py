"""What one worker does with some documents: tidies and filters them, and notes what copies are found by.

It depends on nothing but the documents, so it is the same wherever and in whatever order they are done.
Shapes: N documents that are kept, P numbers of a signature, B bands, L lines that other documents might share.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zstandard

from bothways.text.cleaning.copies import band_keys, bands_of, signatures
from bothways.text.cleaning.evaluation import Evaluation
from bothways.text.cleaning.grams import digest_of, hashed, words_of
from bothways.text.cleaning.languages import language_of
from bothways.text.cleaning.recipe import Recipe
from bothways.text.cleaning.rules import QUALITY, first_rule
from bothways.text.cleaning.tidy import tidy
from bothways.text.documents import Document

SAMPLES = 3
"""Documents that are shown of each kind."""
_SHOWN = 300  # characters of such a document
_TOLD = 32  # of one document in so many the language is told, where no languages are asked for
_SHORTEST_LINE, _LONGEST_LINE = 3, 60  # words of a line that other documents might share

Removed = dict[str, list[dict[str, str]]]
DOCUMENT = np.dtype([("source", "<u2"), ("words", "<u4"), ("characters", "<u4")])
LINE = np.dtype([("document", "<i8"), ("line", "<u8")])


@dataclass
class Figures:
    """What was counted; figures of two parts add up.

    Attributes:
        read: Documents read.
        characters: Characters read.
        changed: Documents that each step of tidying changed.
        removed: Documents that each rule left out.
        samples: A few of them.
        languages: Documents by language, of those whose language was told.
        overlapping: Documents that overlap with evaluation files.
        hits: Runs of evaluation files that were found: ``"length place"``.
    """

    read: int = 0
    characters: int = 0
    changed: Counter[str] = field(default_factory=Counter)
    removed: Counter[str] = field(default_factory=Counter)
    samples: Removed = field(default_factory=dict)
    languages: Counter[str] = field(default_factory=Counter)
    overlapping: int = 0
    hits: set[str] = field(default_factory=set)

    def add(self, other: Figures) -> None:
        """Counts in those of the documents that come next."""
        self.read += other.read
        self.characters += other.characters
        self.overlapping += other.overlapping
        self.changed.update(other.changed)
        self.removed.update(other.removed)
        self.languages.update(other.languages)
        self.hits |= other.hits
        for name, samples in other.samples.items():
            mine = self.samples.setdefault(name, [])
            mine += samples[: SAMPLES - len(mine)]

    def remove(self, rule: str, name: str, text: str, why: str = "") -> None:
        """Counts a document that is left out."""
        self.removed[rule] += 1
        self.show(rule, name, text, why)

    def show(self, kind: str, name: str, text: str, why: str = "") -> None:
        """Keeps a document as a sample, if there is not enough of its kind."""
        samples = self.samples.setdefault(kind, [])
        if len(samples) < SAMPLES:
            samples.append({"name": name, "text": text[:_SHOWN], "why": why})

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "hits": sorted(self.hits)}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Figures:
        """From plain data."""
        counters = {name: Counter(found[name]) for name in ("changed", "removed", "languages")}
        return Figures(**{**found, **counters, "hits": set(found["hits"])})


@dataclass(frozen=True)
class Washed:
    """Documents that were kept, and what was counted.

    Attributes:
        frame: Them as compressed lines of JSON: ``text``, ``source``.
        columns: By name what the next steps need: ``documents`` ``(N,)``, ``exact`` ``(N,)`` uint64, ``signatures``
            ``(N, P)`` uint32, ``band-00`` ... ``(N,)`` uint64, ``lines`` ``(L,)`` with places among these documents.
        figures: What was counted.
    """

    frame: bytes
    columns: dict[str, np.ndarray]
    figures: Figures


@dataclass(frozen=True)
class Washer:
    """Cleans documents one by one.

    Attributes:
        recipe: How.
        evaluation: What they must not overlap with.
    """

    recipe: Recipe
    evaluation: Evaluation | None = None

    def __call__(self, documents: list[Document], sources: list[int]) -> Washed:
        """Cleans some documents.

        Args:
            documents: They.
            sources: The number of the source of each.
        """
        figures, kept = Figures(), _Kept()
        for document, source in zip(documents, sources, strict=True):
            figures.read += 1
            figures.characters += sum(map(len, document.paragraphs))
            lines, changed = tidy(document.paragraphs)
            figures.changed.update(changed)
            if (rule := self._rule(lines, figures)) is not None:
                figures.remove(rule, document.name, "\n".join(lines or document.paragraphs))
                continue
            words = words_of("\n".join(lines))
            hashes = hashed(words)
            if self.evaluation is not None and (hits := self.evaluation.hits(hashes)):
                figures.overlapping += 1
                figures.hits.update(f"{length} {place}" for length, place in hits)
                if self.recipe.decontaminate:
                    figures.remove("evaluation", document.name, "\n".join(lines))
                    continue
                figures.show("evaluation", document.name, "\n".join(lines))
            kept.add(document, source, lines, words, hashes)
        return Washed(kept.frame(), kept.columns(self.recipe), figures)

    def _rule(self, lines: list[str], figures: Figures) -> str | None:
        rule = first_rule(lines, frozenset(QUALITY) - set(self.recipe.skip))
        asked = self.recipe.languages
        if rule is None and (asked or figures.read % _TOLD == 1):
            language = language_of("\n".join(lines))
            figures.languages[language] += 1
            rule = "language" if asked and language not in asked else None
        return rule


class _Kept:
    """The documents that are kept, as they come."""

    def __init__(self) -> None:
        self.rows: list[str] = []
        self.documents: list[tuple[int, int, int]] = []
        self.exact: list[int] = []
        self.hashes: list[np.ndarray] = []
        self.lines: list[tuple[int, int]] = []

    def add(self, document: Document, source: int, lines: list[str], words: list[str], hashes: np.ndarray) -> None:
        """Adds a document."""
        text, number = "\n".join(lines), len(self.rows)
        self.rows.append(json.dumps({"text": text, "source": document.name}, ensure_ascii=False))
        self.documents.append((source, len(text.split()), len(text)))
        self.exact.append(digest_of(words))
        self.hashes.append(hashes)
        if len(lines) > 1:
            self.lines += [(number, line) for line in sorted(shared_lines(lines))]

    def frame(self) -> bytes:
        """The rows, compressed."""
        rows = "".join(f"{row}\n" for row in self.rows).encode("utf-8", "replace")
        return zstandard.ZstdCompressor(level=3).compress(rows) if rows else b""

    def columns(self, recipe: Recipe) -> dict[str, np.ndarray]:
        """As `Washed.columns` says."""
        columns: dict[str, np.ndarray] = {
            "documents": np.array(self.documents, DOCUMENT),
            "exact": np.array(self.exact, np.uint64),
        }
        if recipe.near is not None:
            columns["signatures"] = signatures(self.hashes)
            bands, rows = bands_of(recipe.near)
            keys_BN = band_keys(columns["signatures"], bands, rows)
            columns |= {f"band-{band:02d}": keys for band, keys in enumerate(keys_BN)}
        if recipe.shared_by:
            columns["lines"] = np.array(self.lines, LINE)
        return columns


def line_key(line: str) -> int | None:
    """What a line is known by; None for one too short or too long to be one that many documents share."""
    words = words_of(line)
    return digest_of(words) if _SHORTEST_LINE <= len(words) <= _LONGEST_LINE else None


def shared_lines(lines: list[str]) -> set[int]:
    """The lines of a document that others might share."""
    return {key for line in lines if (key := line_key(line)) is not None}
