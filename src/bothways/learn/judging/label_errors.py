"""Labels that may be wrong: confident learning (Northcutt, Jiang and Chuang 2021, sections 3 and 4)."""

from __future__ import annotations

import numpy as np

from bothways.learn.tasks.protocol import Examined

_LEAST, _SURE, _DOUBTFUL = 0.5, 0.8, 0.2


def suspected_errors(examined: Examined) -> list[int]:
    """The places of examples whose label the model contradicts with confidence, the strongest contradiction first.

    A class is confidently there where its probability is at least the mean that examples labelled so are given, and not
    below a half: of few examples the mean says little. An example that is confidently of another class than its label
    says is suspected; they are ordered by how much likelier that class is. Tasks that decide many things an
    example (words of a text, several classes) have no such means: there an example is suspected if its guess has at
    least 0.8 and what is called right at most 0.2.
    """
    truth, shares = examined.truth, examined.probabilities
    if truth is not None and shares is not None and len(truth) == len(examined.rows):
        means = np.array([_mean(shares[truth == one, one]) for one in range(shares.shape[1])])
        confident = np.maximum(means, _LEAST)
        there = np.where(shares >= confident, shares, -1.0)
        likeliest = there.argmax(1)
        found = np.flatnonzero((likeliest != truth) & (there.max(1) >= 0))
        margins = there.max(1)[found] - shares[found, truth[found]]
        return found[np.argsort(-margins, kind="stable")].tolist()
    rows = examined.rows
    chosen = [n for n, row in enumerate(rows) if row.credit < 1 and row.confidence >= _SURE and row.doubt <= _DOUBTFUL]
    return sorted(chosen, key=lambda place: rows[place].doubt)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.inf
