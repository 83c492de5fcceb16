"""Many languages: a text and its translation are both to have the vector that a teacher has for the text.

Reimers and Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation", section
2: the first text is in a language that the teacher knows, the second says the same in another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class Parallel:
    """The squared distance of both vectors from the teacher's vector of the first text."""

    name = "parallel"
    needs = "pairs of a text and its translation, and a teacher"
    forms = ("pairs",)
    meets = False
    guesses = False

    def right(self, data: VectorData) -> None:
        """The teacher's vectors say it."""

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over both texts of all pairs of the sum over the values."""
        assert step.taught is not None
        first = torch.from_numpy(np.repeat(step.starts[:-1], np.diff(step.starts))).to(step.vectors.device)
        taught_SE = step.taught[first, : step.vectors.shape[1]]
        return Mean((step.vectors - taught_SE).square().sum(1).mean())
