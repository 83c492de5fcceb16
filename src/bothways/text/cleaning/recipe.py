"""How a corpus is cleaned: one frozen value that refuses what makes no sense."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bothways.errors import BothwaysError, closest, need
from bothways.text.cleaning.copies import bands_of
from bothways.text.cleaning.languages import known_languages
from bothways.text.cleaning.rules import QUALITY

VERSION = 2
"""Raised when the same recipe would clean otherwise than before."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is done to documents.

    Attributes:
        languages: Codes (ISO 639-1) of the languages that are kept; none for all.
        skip: Names of rules that are not applied.
        near: How alike (Jaccard similarity of their runs of five words) two documents have to be for the later one to
            be a near duplicate; None looks for exact duplicates only.
        shared_by: A line of three or more words that so many documents share is boiler-plate; 0 keeps all lines.
        overlap: Words of a run that a document and an evaluation example must share to overlap.
        decontaminate: Whether documents that overlap with evaluation files are left out; else they are told of.
    """

    languages: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    near: float | None = 0.8
    shared_by: int = 20
    overlap: int = 13
    decontaminate: bool = False

    def __post_init__(self) -> None:
        for name in self.skip:
            if name not in QUALITY:
                raise BothwaysError(f"there is no rule {name!r}{closest(name, QUALITY)} (rules: {', '.join(QUALITY)})")
        if self.near is not None:
            bands_of(self.near)
            need("rensa", "corpus", "Finding near duplicates")
        if self.shared_by < 0 or self.shared_by == 1:
            raise BothwaysError(f"shared_by must be 0, or 2 documents or more, not {self.shared_by}")
        if self.languages:
            known = known_languages()
            for code in self.languages:
                if code not in known:
                    raise BothwaysError(
                        f"{code!r} is no language that can be told{closest(code, known)} (two letters, as in 'en')"
                    )

    def identity(self) -> dict[str, Any]:
        """What the cleaned text depends on, as JSON would give it back."""
        return {"version": VERSION} | {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
