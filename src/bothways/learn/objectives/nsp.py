"""Next sentence prediction (Devlin et al. 2018, section 3.1): does text B follow text A in the document?

The pairs are formed with the examples; here they only become targets and a loss.

Shapes: S sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from bothways.learn.objectives.protocol import Loss, Targets, class_loss
from bothways.model.encoder import EncoderOutput


@dataclass(frozen=True)
class NextSentence:
    """The objective; its target ``nsp.labels`` ``(S,)`` is 0 where B follows A and 1 where it does not."""

    name = "nsp"
    head = "nsp"

    def count(self, targets: Targets) -> int:
        """S, the number of pairs."""
        return len(targets["nsp.labels"])

    def loss(self, model: nn.ModuleDict, output: EncoderOutput, targets: Targets) -> Loss:
        """The sum of the cross-entropies over the pairs, float32; ``hits`` counts right guesses."""
        return class_loss(model["nsp"](output), targets["nsp.labels"])
