"""The best span of a text: which tokens an answer runs over, or that there is none. NumPy only.

A span of a window scores what its beginning and end score (Devlin et al. 2018, section 4.2), its end is never before
its beginning, and it is at most so many tokens long. A text in several windows has the spans of all of them, each with
the best of its scores; none crosses a window's edge.

Shapes: N tokens of a text, W of them in a window, L the longest span.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_LOWEST = np.float32(-np.inf)


class Span(NamedTuple):
    """Tokens ``first`` to ``last`` of a text, both included, with their score and their share of all spans."""

    first: int
    last: int
    score: float
    probability: float


class Spans:
    """All spans of one text, scored window by window.

    Args:
        tokens: N.
        longest: L, the most tokens of a span.

    Attributes:
        scores: ``(N, L)`` float32: row i, column k scores the tokens i to i + k; -inf where no window holds them.
        null: The score of "no answer": the lowest of any window's first token, since one window that holds an answer
            is enough (Devlin et al. 2018, section 4.3).
    """

    def __init__(self, tokens: int, longest: int) -> None:
        self.scores = np.full((tokens, min(longest, max(tokens, 1))), _LOWEST, dtype=np.float32)
        self.null = np.inf

    def add(self, begin: int, logits_W2: np.ndarray, null: float) -> None:
        """Takes up a window.

        Args:
            begin: Its first token's number in the text.
            logits_W2: ``(W, 2)`` how well an answer begins and ends at each of its tokens.
            null: The same, summed, of its first token, which stands for "no answer".
        """
        width = len(logits_W2)
        begins, ends = logits_W2[:, 0], logits_W2[:, 1]
        for length in range(min(self.scores.shape[1], width)):
            span = slice(begin, begin + width - length)
            found = begins[: width - length] + ends[length:]
            self.scores[span, length] = np.maximum(self.scores[span, length], found)
        self.null = min(self.null, null)

    def best(self, top: int) -> list[Span]:
        """The `top` best spans, best first.

        Probabilities are a softmax over the scores of all spans. Of equal scores the first, then the shortest, is the
        better.
        """
        flat = self.scores.ravel()
        count = min(top, int(np.isfinite(flat).sum()))
        found = np.argpartition(-flat, count - 1)[:count] if count else np.empty(0, dtype=np.int64)
        if count:  # others may score what the last of them does: the first of those is meant
            edge = flat[found].min()
            found = np.concatenate((np.flatnonzero(flat > edge), np.flatnonzero(flat == edge)))[:count]
        found = found[np.lexsort((found, -flat[found]))]
        if not count:
            return []
        highest = float(flat[found[0]])
        total = float(np.exp(flat - np.float32(highest), dtype=np.float64).sum())
        spans = []
        for place in found.tolist():
            first, length = divmod(place, self.scores.shape[1])
            score = float(flat[place])
            spans.append(Span(first, first + length, score, float(np.exp(score - highest)) / total))
        return spans
