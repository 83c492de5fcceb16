"""The second half of cleaning: what only all documents together tell. Copies, lines that many share, the mixture.

What is left is written as compressed lines of JSON, a file after the other, in the order in which it was read.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard

from bothways.chance import generator
from bothways.errors import BothwaysWarning
from bothways.progress import Progress
from bothways.text.cleaning.copies import NUMBERS, find_exact, find_near, groups
from bothways.text.cleaning.draft import TEXT, Draft
from bothways.text.cleaning.recipe import Recipe
from bothways.text.cleaning.rules import first_rule
from bothways.text.cleaning.wash import DOCUMENT, LINE, line_key
from bothways.text.files import numbered, open_bytes

PART_CHARACTERS = 100_000_000
"""A file of the cleaned text ends with the document that brings it to so many characters."""
LENGTHS = (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Where the bins of the histogram of lengths begin, in words."""
_SAMPLE = 8  # kept documents that are shown
_SHOWN = 600  # characters of such a one


@dataclass(frozen=True)
class Verdict:
    """What is to become of the documents.

    Attributes:
        exact: ``(N,)`` int64, the number of the document that each is a copy of; -1 for none.
        near: The same for near copies.
        shared: Lines that many documents share, as `line_key` numbers them.
        shares: What share of each source's documents is taken.
    """

    exact: np.ndarray
    near: np.ndarray
    shared: frozenset[int]
    shares: tuple[float, ...]


def judge(draft: Draft, recipe: Recipe, weights: Sequence[float] | None) -> Verdict:
    """Finds the copies and the shared lines, and how much of each source is taken.

    Args:
        draft: All documents, tidied.
        recipe: How they are cleaned.
        weights: Of the sources, in the text that results; None takes all.
    """
    exact, near = draft.scratch("copy-of"), draft.scratch("near-of")
    if draft.state.kept:
        find_exact(draft.folder / "exact", exact)
        if recipe.near is not None:
            bands = sorted(draft.folder.glob("band-*"))
            find_near(bands, draft.column("signatures", np.dtype(np.uint32), NUMBERS), recipe.near, near)
    documents = draft.column("documents", DOCUMENT)
    return Verdict(exact, near, _shared(draft, exact, near, recipe.shared_by), _shares(documents, exact, near, weights))


def _shared(draft: Draft, exact: np.ndarray, near: np.ndarray, least: int) -> frozenset[int]:
    lines = draft.column("lines", LINE)
    if not least or not len(lines):
        return frozenset()
    keys = draft.folder / "line-keys"
    with keys.open("wb") as file:
        for some in _slices(len(lines)):
            numbers = lines["document"][some]
            alone = (exact[numbers] < 0) & (near[numbers] < 0)  # a copy would count its lines again
            lines["line"][some][alone].tofile(file)
    found: set[int] = set()
    kept = np.memmap(keys, np.uint64, "r") if keys.stat().st_size else np.empty(0, np.uint64)
    for places, group in groups(keys):
        firsts, counts = np.unique(group, return_counts=True)
        found.update(kept[places[firsts[counts >= least]]].tolist())
    return frozenset(found)


def _shares(
    documents: np.ndarray, exact: np.ndarray, near: np.ndarray, weights: Sequence[float] | None
) -> tuple[float, ...]:
    """As much of each source as its weight wants, no document twice: the scarcest source is taken whole.

    A source of which nothing is left is not the scarcest, or nothing would be taken of any.
    """
    if weights is None:
        return ()
    amounts = np.zeros(len(weights))
    for some in _slices(len(documents)):
        alone = (exact[some] < 0) & (near[some] < 0)
        here = documents[some]
        amounts += np.bincount(here["source"][alone], here["characters"][alone], minlength=len(weights))
    wanted = np.asarray(weights, np.float64)
    for number in np.flatnonzero((wanted > 0) & (amounts == 0)):
        warnings.warn(
            f"of source {number + 1} nothing is left (copies of what came before, or left out by the rules), so the "
            "others are mixed without it; leave it out, or give it the weight 0",
            BothwaysWarning,
            stacklevel=2,
        )
    there = (wanted > 0) & (amounts > 0)
    whole = np.min(amounts[there] / wanted[there]) if there.any() else 0.0
    return tuple(np.minimum(1.0, whole * wanted / np.maximum(amounts, 1)).tolist())


def _slices(count: int, step: int = 1 << 20) -> Iterator[slice]:
    return (slice(begin, min(begin + step, count)) for begin in range(0, count, step))


@dataclass
class Kept:
    """What is left.

    Attributes:
        documents: Documents.
        words: Their words, as white space separates them.
        characters: Their characters.
        sources: Characters by source.
        lengths: Documents by length in words; the bins are `LENGTHS`.
        lines: Shared lines that were taken out.
        samples: A few documents, spread over the corpus.
    """

    documents: int
    words: int
    characters: int
    sources: list[int]
    lengths: list[int]
    lines: int
    samples: list[dict[str, str]]


def write(draft: Draft, verdict: Verdict, folder: Path, count: int, job: Progress) -> Kept:
    """Writes what is left, and counts what is left out into the figures of the draft.

    Args:
        draft: All documents, tidied.
        verdict: What is to become of them.
        folder: An empty folder for the files.
        count: How many sources there are.
        job: Is told of every document.
    """
    figures, state = draft.state.figures, draft.state
    kept = Kept(0, 0, 0, [0] * count, [0] * len(LENGTHS), 0, [])
    originals = _originals(verdict)
    every = max(1, state.kept // (2 * _SAMPLE))
    documents = draft.column("documents", DOCUMENT)
    with _Parts(folder) as parts:
        for number, row in enumerate(_rows(draft)):
            job.advance()
            if number in originals:
                originals[number] = f"{row['source']}: {row['text'][:120]}"
            why = _why_not(number, documents[number], verdict)
            if why in ("exact duplicate", "near duplicate"):
                copies = verdict.exact if why == "exact duplicate" else verdict.near
                figures.remove(why, row["source"], row["text"], originals.get(int(copies[number]), ""))
                continue
            lines = row["text"].split("\n")
            own = [line for line in lines if line_key(line) not in verdict.shared] if verdict.shared else lines
            kept.lines += len(lines) - len(own)
            if len(own) < len(lines) and (not own or first_rule(own, frozenset({"short"}))):
                why = "boilerplate"
            if why is not None:
                figures.remove(why, row["source"], row["text"])
                continue
            text = "\n".join(own)
            parts.add({"text": text, "source": row["source"]})
            words = len(text.split())
            kept.documents += 1
            kept.words += words
            kept.characters += len(text)
            kept.sources[int(documents[number]["source"])] += len(text)
            kept.lengths[int(np.searchsorted(LENGTHS, words, side="right")) - 1] += 1
            if number % every == 0 and len(kept.samples) < _SAMPLE:
                kept.samples.append({"name": row["source"], "text": text[:_SHOWN]})
    return kept


def _why_not(number: int, document: Any, verdict: Verdict) -> str | None:
    if verdict.exact[number] >= 0:
        return "exact duplicate"
    if verdict.near[number] >= 0:
        return "near duplicate"
    if verdict.shares:
        share = verdict.shares[int(document["source"])]
        if share < 1 and generator("mixture", number).random() >= share:
            return "mixture"
    return None


def _originals(verdict: Verdict) -> dict[int, str]:
    """The documents whose copies are shown as samples."""
    wanted: dict[int, str] = {}
    for copies in (verdict.exact, verdict.near):
        places = _first_places(copies, 8)
        wanted |= {int(copies[place]): "" for place in places}
    return wanted


def _first_places(copies: np.ndarray, most: int) -> list[int]:
    found: list[int] = []
    for some in _slices(len(copies)):
        found += (np.flatnonzero(copies[some] >= 0)[: most - len(found)] + some.start).tolist()
        if len(found) >= most:
            break
    return found


def _rows(draft: Draft) -> Iterator[dict[str, Any]]:
    if not draft.state.kept:
        return
    with open_bytes(draft.folder / TEXT) as stream:
        for _, line in numbered(stream, TEXT):
            yield json.loads(line)


class _Parts:
    """The files that the cleaned text is written to, each compressed as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.number, self.characters = folder, 0, 0
        self.file: IO[bytes] | None = None

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def add(self, row: dict[str, str]) -> None:
        """Writes a document."""
        if self.file is None:
            path = self.folder / f"text-{self.number:05d}.jsonl.zst"
            self.file = zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(level=6))
        self.file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
        self.characters += len(row["text"])
        if self.characters >= PART_CHARACTERS:
            self._end()

    def _end(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file, self.characters, self.number = None, 0, self.number + 1
