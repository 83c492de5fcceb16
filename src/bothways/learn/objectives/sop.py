"""Sentence order prediction (Lan et al. 2019, "ALBERT", section 3.1): are two neighbouring texts in their order?

Topic, which mostly decides whether one text follows another, does not tell it: both texts are from the same place. The
pairs are formed with the examples (`pairs`); here their labels become targets and a loss.

Shapes: S sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets, class_loss


@dataclass(frozen=True)
class SentenceOrder:
    """The objective; its target ``sop.labels`` ``(S,)`` is 0 where the texts stand in order, 1 where not."""

    name = "sop"
    heads = ("sop",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Takes the labels of the pairs."""
        return batch, {"sop.labels": np.array([example[2] for example in examples], dtype=np.int64)}

    def count(self, targets: Targets) -> int:
        """S, the number of pairs."""
        return len(targets["sop.labels"])

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies over the pairs, float32; ``hits`` counts right guesses."""
        return class_loss(model["sop"](forward.output), targets["sop.labels"])
