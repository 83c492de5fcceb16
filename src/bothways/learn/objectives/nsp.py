"""Next sentence prediction (Devlin et al. 2018, section 3.1): does text B follow text A in the document?

The pairs are formed with the examples; here they only become targets and a loss.

Shapes: S sequences.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from bothways.learn.objectives.protocol import Loss, Targets
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
        logits = model["nsp"](output.pooled)
        labels = torch.from_numpy(targets["nsp.labels"]).to(logits.device)
        hits = (logits.detach().argmax(-1) == labels).sum(dtype=torch.float32)
        return Loss(functional.cross_entropy(logits, labels, reduction="sum"), hits)
