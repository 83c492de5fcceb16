"""How well spans of words are found, by the rules of the CoNLL shared tasks' ``conlleval``.

A span counts as found if its first word, its last word and its kind are right. Sang and De Meulder 2003, "Introduction
to the CoNLL-2003 Shared Task", section 2.4.

Shapes: N texts, W words of all texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bothways.text.tag_schemes import Spans, TagSet, find_spans


@dataclass(frozen=True)
class SpanCounts:
    """Spans that are right, guessed and both, of each text and kind.

    Attributes:
        kinds: Names of the kinds.
        right: Text ``(M,)`` and kind ``(M,)`` of each span that is right.
        guessed: The same of those guessed.
        found: The same of those guessed rightly.
        words: ``(N,)`` words of each text.
        word_hits: ``(N,)`` words with the right tag.
    """

    kinds: tuple[str, ...]
    right: tuple[np.ndarray, np.ndarray]
    guessed: tuple[np.ndarray, np.ndarray]
    found: tuple[np.ndarray, np.ndarray]
    words: np.ndarray
    word_hits: np.ndarray

    def metrics(self, places: np.ndarray | None = None) -> dict[str, float]:
        """The figures of some texts.

        Args:
            places: Their numbers, with repetition; None: all once.

        Returns:
            ``f1``, ``precision`` and ``recall`` over all spans, ``accuracy`` over words, and ``macro_f1``, the mean of
            the kinds that occur; from 0 to 1, and 0 where nothing is there to be divided by.
        """
        texts = len(self.words)
        times = np.ones(texts) if places is None else np.bincount(places, minlength=texts).astype(np.float64)
        right, guessed, found = (self._by_kind(spans, times) for spans in (self.right, self.guessed, self.found))
        occurring = right + guessed > 0
        kinds = _f1(found, guessed, right)[occurring]
        whole = [counts.sum() for counts in (found, guessed, right)]
        return {
            "f1": float(_f1(*whole)),
            "precision": float(_ratio(whole[0], whole[1])),
            "recall": float(_ratio(whole[0], whole[2])),
            "accuracy": float(_ratio(times @ self.word_hits, times @ self.words)),
            "macro_f1": float(kinds.mean()) if len(kinds) else 0.0,
        }

    def by_kind(self) -> dict[str, dict[str, float]]:
        """``precision``, ``recall``, ``f1`` and ``support`` of each kind."""
        times = np.ones(len(self.words))
        right, guessed, found = (self._by_kind(spans, times) for spans in (self.right, self.guessed, self.found))
        columns = (_ratio(found, guessed), _ratio(found, right), _f1(found, guessed, right))
        return {
            kind: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(n)}
            for kind, p, r, f, n in zip(self.kinds, *columns, right, strict=True)
        }

    def by_text(self) -> np.ndarray:
        """``(N,)`` the F1 of each text's spans; 1 where none is there and none is guessed."""
        count = len(self.words)
        right, guessed, found = (
            np.bincount(spans[0], minlength=count) for spans in (self.right, self.guessed, self.found)
        )
        return np.where(right + guessed > 0, _f1(found, guessed, right), 1.0)

    def _by_kind(self, spans: tuple[np.ndarray, np.ndarray], times: np.ndarray) -> np.ndarray:
        return np.bincount(spans[1], weights=times[spans[0]], minlength=len(self.kinds))


def count_spans(tag_set: TagSet, right_W: np.ndarray, guessed_W: np.ndarray, edges: np.ndarray) -> SpanCounts:
    """Compares the spans of two taggings of the same words.

    Args:
        tag_set: What the tags mean.
        right_W: ``(W,)`` the right tags.
        guessed_W: ``(W,)`` those guessed; sequences that break their scheme count as ``conlleval`` reads them.
        edges: ``(N + 1,)`` where each text's words begin.
    """
    right, guessed = find_spans(tag_set, right_W, edges), find_spans(tag_set, guessed_W, edges)
    ends, kinds = np.full(len(right_W), -1), np.full(len(right_W), -1)
    ends[right.first], kinds[right.first] = right.last, right.kind
    hits = (ends[guessed.first] == guessed.last) & (kinds[guessed.first] == guessed.kind)
    found = Spans(guessed.first[hits], guessed.last[hits], guessed.kind[hits])
    passed = np.concatenate([[0], np.cumsum(right_W == guessed_W)])

    def placed(spans: Spans) -> tuple[np.ndarray, np.ndarray]:
        return np.searchsorted(edges, spans.first, "right") - 1, spans.kind

    words, hits = np.diff(edges), np.diff(passed[edges])
    return SpanCounts(tag_set.kinds, placed(right), placed(guessed), placed(found), words, hits)


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(np.shape(whole)), where=np.asarray(whole) > 0)


def _f1(found: np.ndarray, guessed: np.ndarray, right: np.ndarray) -> np.ndarray:
    return _ratio(2.0 * found, guessed + right)
