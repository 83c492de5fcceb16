"""Masked language modelling (Devlin et al. 2018, section 3.1): which tokens stood in the masked places?

Shapes: M chosen places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bothways.batch import TokenBatch
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets


@dataclass(frozen=True)
class MaskedTokens:
    """The objective; its targets are ``mlm.places`` ``(M,)``, ascending, and ``mlm.labels`` ``(M,)``.

    Attributes:
        masking: How tokens are chosen and changed.
    """

    masking: Masking
    name = "mlm"
    heads = ("mlm",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Masks a batch."""
        masked = self.masking.apply(batch, keys, progress)
        return masked.batch, {"mlm.places": masked.places, "mlm.labels": masked.labels}

    def count(self, targets: Targets) -> int:
        """M, the number of chosen places."""
        return len(targets["mlm.places"])

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies at the chosen places, float32; ``hits`` counts right guesses."""
        x_TD = forward.output.sequence
        places = torch.from_numpy(targets["mlm.places"]).to(x_TD.device)
        labels = torch.from_numpy(targets["mlm.labels"]).to(x_TD.device)
        total, hits = model["mlm"].loss(x_TD.index_select(0, places), forward.encoder.token_table, labels)  # type: ignore[operator]
        return Loss(total, hits)
