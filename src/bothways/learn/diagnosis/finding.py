"""What a diagnosis says, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["healthy", "sick", "too early to say"]

LOG, HELD_OUT, CORPUS, SETTINGS = "log.jsonl", "log.jsonl, held out", "the corpus", "the settings"
"""Where a number comes from."""


@dataclass(frozen=True)
class Evidence:
    """A number that speaks for a finding.

    Attributes:
        what: What it is, in words.
        value: The number.
        source: Where it comes from.
        form: How it is written, as Python formats numbers.
    """

    what: str
    value: float
    source: str
    form: str = ".3f"

    def __str__(self) -> str:
        return f"{self.value:{self.form}}"


@dataclass(frozen=True)
class Finding:
    """A likely cause.

    Attributes:
        name: Short, for programs: ``"rate too high"``.
        what: One sentence for people: what is seen, and why that is so.
        evidence: The numbers that speak for it.
        remedy: What to do, with the exact option to change.
        weight: From 0 to 1: how sure it is and how much it spoils; the heaviest comes first.
        explains: Names of findings that follow from this one, and need not be told besides.
    """

    name: str
    what: str
    evidence: tuple[Evidence, ...]
    remedy: str
    weight: float
    explains: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What is known about the health of a run.

    Attributes:
        run: Its folder.
        verdict: "healthy", "sick" or "too early to say".
        why: The verdict in one sentence.
        findings: The likely causes, the heaviest first; empty unless the verdict is "sick".
        figures: Where the run stands: names in words, numbers as they are logged.
        missing: What could not be looked at, and why: one sentence each.
    """

    run: str
    verdict: Verdict
    why: str
    findings: tuple[Finding, ...]
    figures: dict[str, float]
    missing: tuple[str, ...]
