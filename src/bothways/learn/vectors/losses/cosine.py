"""Cosine regression: the cosine of two vectors is to be the score of their texts.

Reimers and Gurevych 2019, "Sentence-BERT", section 3: the mean squared error, as on STS-B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step, cosines


@dataclass(frozen=True)
class Cosine:
    """The squared difference of cosine and score.

    Attributes:
        score_range: What scores go from and to; they are brought to 0 to 1.
    """

    score_range: tuple[float, float] = (0.0, 1.0)
    name = "cosine"
    needs = "pairs of texts with a score each"
    forms = ("scored", "labelled")
    meets = False
    guesses = False

    def right(self, data: VectorData) -> np.ndarray:
        """Scores from 0 to 1."""
        low, high = self.score_range
        scores = data.scores()
        outside = np.flatnonzero((scores < low) | (scores > high))
        if len(outside):
            raise BothwaysError(
                f"{data.place(int(outside[0]))} has the score {scores[outside[0]]:g}, outside {low:g} to {high:g}; say "
                f"what scores go from and to, such as --score-range {min(scores.min(), 0):g} {np.ceil(scores.max()):g} "
                "(in Python score_range=...)"
            )
        found: np.ndarray = ((scores - low) / (high - low)).astype(np.float32)
        return found

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the pairs."""
        assert step.right is not None
        return Mean((cosines(step) - step.right).square().mean())
