"""Distillation: a text's vector is to be the one that a bigger model has for it.

Hinton et al. 2015 ("Distilling the Knowledge in a Neural Network") on vectors, as Reimers and Gurevych 2020 ("Making
Monolingual Sentence Embeddings Multilingual using Knowledge Distillation", section 2) measure it: the squared error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from bothways.learn.vectors.data import FORMS, VectorData
from bothways.learn.vectors.step import Mean, Step


@dataclass(frozen=True)
class DistilVectors:
    """The squared distance from the teacher's vector."""

    name = "distil"
    needs = "texts of any form, and a teacher"
    forms = tuple(FORMS)
    meets = False
    guesses = False

    def right(self, data: VectorData) -> None:
        """The teacher's vectors say it."""

    def count(self, starts: np.ndarray, also: Mapping[str, Any]) -> int:
        """The texts."""
        return int(starts[-1])

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the texts of the sum over the values."""
        assert step.taught is not None
        taught_SE = step.taught[:, : step.vectors.shape[1]]
        return Mean((step.vectors - taught_SE).square().sum(1).mean())
