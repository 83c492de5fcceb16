"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from bothways.use.serve.desk import Answered

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Figures:
    """Counts of one server.

    Attributes:
        paths: Those that are told apart; all others are counted together, so that nobody can make up any number.
        waiting: Tokens that wait for their answers.
    """

    def __init__(self) -> None:
        self.paths: frozenset[str] = frozenset()
        self._all = CollectorRegistry()
        self._requests = Counter(
            "bothways_requests", "Requests by path and status.", ["path", "status"], registry=self._all
        )
        self._seconds = Histogram(
            "bothways_seconds", "Seconds to the answer.", ["path"], buckets=_SECONDS, registry=self._all
        )
        made = {
            name: Counter(f"bothways_{name}", said, ["model"], registry=self._all)
            for name, said in {
                "texts": "Texts, or pairs, that were answered.",
                "tokens": "Tokens of these texts.",
                "cut_texts": "Texts that were too long.",
                "cut_tokens": "Tokens that were lost of them.",
            }.items()
        }
        self._texts, self._tokens, self._cut_texts, self._cut_tokens = made.values()
        self.waiting = Gauge("bothways_waiting_tokens", "Tokens that wait for their answers.", registry=self._all)

    def seen(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        known = path if path in self.paths else "other"
        self._requests.labels(known, str(status)).inc()
        self._seconds.labels(known).observe(seconds)

    def answered(self, found: Answered) -> None:
        """Counts what was read."""
        name, read = found.offered.name, found.read
        for counter, amount in (
            (self._texts, read.all_texts),
            (self._tokens, read.all_tokens),
            (self._cut_texts, read.texts),
            (self._cut_tokens, read.tokens),
        ):
            counter.labels(name).inc(amount)

    def text(self) -> bytes:
        """All figures in Prometheus' form."""
        return generate_latest(self._all)
