"""Next sentence prediction (Devlin et al. 2018, section 3.1): does text B follow text A in the document?

The pairs are formed with the examples (`pairs`); here their labels become targets and a loss.

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
class NextSentence:
    """The objective; its target ``nsp.labels`` ``(S,)`` is 0 where B follows A and 1 where it does not."""

    name = "nsp"
    heads = ("nsp",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Takes the labels of the pairs."""
        return batch, {f"{self.name}.labels": np.array([example[2] for example in examples], dtype=np.int64)}

    def count(self, targets: Targets) -> int:
        """S, the number of pairs."""
        return len(targets[f"{self.name}.labels"])

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """Those that its head looks at."""
        return model[self.name].places(batch.starts)  # type: ignore[operator]

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies over the pairs, float32; ``hits`` counts right guesses."""
        return class_loss(model[self.name](forward.output), targets[f"{self.name}.labels"])
