"""Unsupervised SimCSE: a text, read twice with other dropout, is to find itself among the others of a step.

Gao et al. 2021, "SimCSE: Simple Contrastive Learning of Sentence Embeddings", section 3: the same vector but for
dropout is the positive, all other texts are negatives; temperature 0.05.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bothways.learn.vectors.losses.in_batch import InBatch


@dataclass(frozen=True)
class SimCse(InBatch):
    """In-batch negatives of texts that are read twice; settings as of `InBatch`."""

    name = "simcse"
    needs = "texts; dropout makes the pairs"
    forms: ClassVar[tuple[str, ...]] = ("texts",)
