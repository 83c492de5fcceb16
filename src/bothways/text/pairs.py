"""The words of a corpus as neighbouring tokens, kept up to date while pairs of tokens are merged.

A merge touches few of the pairs, so nothing is ever recounted as a whole: every pair remembers where it stands, the
merge visits those places only, and only pairs that hold one of the two parts get a new score. The size of the corpus
in tokens, N, falls with every merge and enters every score, but a score can only fall with it. So a score stored under
an earlier N is an upper bound, and `best` brings up to date just the few that could be the highest.

M positions (one a character of the distinct words), R rows (one a pair).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable

import numpy as np

Score = Callable[[np.ndarray, np.ndarray, np.ndarray, int, np.ndarray], np.ndarray]  # see `wordpiece.likelihood_gain`

_GONE = -1  # the token at a position that was merged into the position before it, and at the position after the end
_NO_ROW = 0  # the row of positions that end a word, and of pairs too rare to be merged


class Pairs:
    """Every pair of neighbouring tokens that is frequent enough, with its count and its score.

    Attributes:
        names: The token strings by id; merged tokens are appended.
        left: (R,) id of the pair's first token.
        right: (R,) id of the pair's second token.
        count: (R,) how often the pair could be merged in the corpus. In a run of equal tokens that is every second
            place: "aaaa" holds the pair (a, a) twice.
        total: Tokens in the corpus, N.
    """

    def __init__(
        self, tokens_M: np.ndarray, weight_M: np.ndarray, ends: np.ndarray, names: list[str], score: Score, minimum: int
    ) -> None:
        """Lays out the words one after the other.

        Args:
            tokens_M: (M,) id of the token at each position.
            weight_M: (M,) how often the word of that position occurs in the corpus.
            ends: The position after the last of each word.
            names: The token strings by id.
            score: The score of pairs, see `wordpiece.likelihood_gain`; it must not grow when the total falls.
            minimum: A pair that occurs less often is not kept; its count can never grow again.
        """
        size = len(tokens_M)
        self.names, self._score_of, self._minimum = names, score, minimum
        self._token = np.append(tokens_M, _GONE).astype(np.int32)
        self._weight = weight_M.astype(np.int64)
        self._next = np.arange(1, size + 2, dtype=np.int32)
        self._previous = np.arange(-1, size, dtype=np.int32)
        self._previous[np.concatenate(([0], ends[:-1]))] = size
        self._next[ends - 1] = size
        self._row = np.zeros(size + 1, np.int32)  # the row of the pair that begins at a position

        # A merge removes one position and makes at most two pairs, so there are never more than 3 M; untouched pages
        # of zeros cost no memory.
        most = 3 * size + 1
        self.left, self.right = np.zeros(most, np.int32), np.zeros(most, np.int32)
        self.count, self._bound = np.zeros(most, np.int64), np.zeros(most)
        self._places, self._first, self._places_used = np.zeros(most, np.int32), np.zeros(most + 1, np.int64), 0
        self._rows_used = 1
        self._bound[_NO_ROW] = -np.inf

        self._tokens = np.bincount(tokens_M, weights=self._weight, minlength=len(names)).astype(np.int64)
        self.total = int(self._weight.sum())
        self._touching: list[array[int]] = [array("i") for _ in names]  # the rows that hold a token
        self._add(np.flatnonzero(self._next[:-1] < size).astype(np.int32))

    def best(self) -> tuple[int, float] | None:
        """The row with the highest score and that score; None when no pair is left.

        Equal scores: the more frequent pair, then the one whose strings come first.
        """
        bound = self._bound[: self._rows_used]
        top = int(bound.argmax())
        if bound[top] == -np.inf:
            return None
        floor = float(self._score(np.array([top]))[0])
        floor -= 1e-6 + 1e-9 * abs(floor)  # more than rounding can move a bound
        rows = np.flatnonzero(bound >= floor)
        scores = bound[rows] = self._score(rows)
        highest = scores.max()
        rows = rows[scores == highest]
        rows = rows[self.count[rows] == self.count[rows].max()]
        row = min(rows.tolist(), key=lambda row: (self.names[self.left[row]], self.names[self.right[row]]))
        return row, float(highest)

    def refuse(self, row: int) -> None:
        """Takes a pair out of the running; it stays unmerged."""
        self.count[row] = 0
        self._bound[row] = -np.inf

    def merge(self, row: int, name: str) -> None:
        """Replaces every occurrence of a pair by one new token.

        Args:
            row: The pair.
            name: The string of the new token, which no token has yet.
        """
        left, right, new = int(self.left[row]), int(self.right[row]), len(self.names)
        positions = self._standing(row)
        seconds = self._next[positions]
        before, after = self._previous[positions], self._next[seconds]
        weights = self._weight[positions]
        self.names.append(name)
        self._touching.append(array("i"))

        self._token[positions] = new
        self._token[seconds] = _GONE
        outer = self._token[before] >= 0  # neither the start of a word nor the second part of the merge just before
        before = before[outer]
        lost = np.concatenate((self._row[before], self._row[seconds]))
        np.subtract.at(self.count, lost, np.concatenate((weights[outer], weights)))
        self._row[seconds] = self._row[before] = self._row[positions] = _NO_ROW
        self._next[positions], self._previous[after] = after, positions

        merged = int(weights.sum())
        np.subtract.at(self._tokens, [left, right], merged)
        self._tokens = np.append(self._tokens, merged)
        self.total -= merged
        self.count[row] = self.count[_NO_ROW] = 0
        for twin in np.unique(lost[self.left[lost] == self.right[lost]]).tolist():
            self.count[twin] = self._weight[self._standing(twin)].sum()
        self._rescore(np.concatenate((self._alive(left), self._alive(right))))
        self._add(np.concatenate((before, positions[self._token[after] >= 0])))

    def _standing(self, row: int) -> np.ndarray:
        """The positions where a pair begins, in rising order; in a run of equal tokens every second one."""
        positions = self._places[self._first[row] : self._first[row + 1]]
        positions = positions[self._row[positions] == row]
        return self._apart(positions) if self.left[row] == self.right[row] else positions

    def _apart(self, positions: np.ndarray) -> np.ndarray:
        """Of positions where a pair of equal tokens begins, those that do not overlap, from the left."""
        place = np.arange(len(positions))
        follows = np.zeros(len(positions), bool)
        follows[1:] = self._next[positions[:-1]] == positions[1:]
        run = np.maximum.accumulate(np.where(follows, 0, place))
        return positions[(place - run) % 2 == 0]

    def _add(self, positions: np.ndarray) -> None:
        """Makes rows for the pairs that begin at `positions`, none of which has a row yet."""
        left, right = self._token[positions], self._token[self._next[positions]]
        pairs, pair_of = np.unique(left.astype(np.int64) << 32 | right, return_inverse=True)
        counts = np.bincount(pair_of, weights=self._weight[positions], minlength=len(pairs)).astype(np.int64)
        lefts, rights = pairs >> 32, pairs & 0xFFFFFFFF
        for twin in np.flatnonzero(lefts == rights).tolist():
            counts[twin] = self._weight[self._apart(np.sort(positions[pair_of == twin]))].sum()
        kept = counts >= self._minimum
        if not kept.any():
            return
        first, made = self._rows_used, int(kept.sum())
        rows = np.arange(first, first + made)
        self._rows_used += made
        self.left[rows], self.right[rows], self.count[rows] = lefts[kept], rights[kept], counts[kept]
        row_of_pair = np.zeros(len(pairs), np.int32)
        row_of_pair[kept] = rows
        self._row[positions] = row_of_pair[pair_of]
        self._place(positions, first, made)
        for row, a, b in zip(rows.tolist(), lefts[kept].tolist(), rights[kept].tolist(), strict=True):
            self._touching[a].append(row)
            if a != b:
                self._touching[b].append(row)
        self._rescore(rows)

    def _place(self, positions: np.ndarray, first: int, made: int) -> None:
        """Writes down where the pairs of the newest rows stand, in rising order."""
        rows = self._row[positions]
        positions, rows = positions[rows != _NO_ROW], rows[rows != _NO_ROW]
        order = np.lexsort((positions, rows))
        used = self._places_used
        self._places_used += len(order)
        self._places[used : self._places_used] = positions[order]
        sizes = np.bincount(rows - first, minlength=made)
        self._first[first : first + made + 1] = used + np.concatenate(([0], np.cumsum(sizes)))

    def _alive(self, token: int) -> np.ndarray:
        """The rows that hold a token, those that fell below the minimum included this last time."""
        rows = np.array(self._touching[token], np.int32)
        kept = rows[self.count[rows] >= self._minimum]
        if len(kept) < 0.8 * len(rows):
            self._touching[token] = array("i", kept.tobytes())
        return rows

    def _rescore(self, rows: np.ndarray) -> None:
        kept = self.count[rows] >= self._minimum
        self._bound[rows[~kept]] = -np.inf
        self._bound[rows[kept]] = self._score(rows[kept])

    def _score(self, rows: np.ndarray) -> np.ndarray:
        left, right = self.left[rows], self.right[rows]
        return self._score_of(self.count[rows], self._tokens[left], self._tokens[right], self.total, left == right)
