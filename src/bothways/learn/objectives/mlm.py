"""Masked language modelling (Devlin et al. 2018, section 3.1): which tokens stood in the masked places?

Shapes: M chosen places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.learn.objectives.choices import MaskDecoder
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.protocol import Each, Forward, Key, Loss, Targets
from bothways.learn.utilisation import guess_work
from bothways.model.config import EncoderConfig
from bothways.model.heads.enhanced_mask_decoder import states_at
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.parts.devices import sent


@dataclass(frozen=True)
class MaskedTokens:
    """The objective; its targets are ``mlm.places`` ``(M,)``, ascending, and ``mlm.labels`` ``(M,)``.

    Attributes:
        masking: How tokens are chosen and changed.
        decoder: What the head guesses from: ``"plain"`` hidden states, or DeBERTa's ``"enhanced"`` mask decoder.
    """

    masking: Masking
    decoder: MaskDecoder = "plain"
    name = "mlm"
    heads = ("mlm",)
    guesses = True

    @property
    def hidden(self) -> bool:
        """Whether it reads the output of every layer."""
        return self.decoder == "enhanced"

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Masks a batch."""
        masked = self.masking.apply(batch, keys, progress)
        return masked.batch, {"mlm.places": masked.places, "mlm.labels": masked.labels}

    def count(self, targets: Targets) -> int:
        """M, the number of chosen places."""
        return len(targets["mlm.places"])

    def work(self, config: EncoderConfig, targets: Targets) -> float:
        """Multiplications of the head at the chosen places, forward."""
        return len(targets["mlm.places"]) * guess_work(config)

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """The chosen ones, where the last layer is all that the head reads."""
        return None if self.hidden else targets["mlm.places"]

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies at the chosen places, float32; ``hits`` counts right guesses."""
        encoder = forward.encoder
        places, labels = (sent(targets[f"mlm.{what}"], encoder.device) for what in ("places", "labels"))
        x_MD = states_at(self.decoder, encoder, forward.output, forward.batch, places)
        found = model["mlm"].guesses(x_MD, encoder.token_table, labels)  # type: ignore[operator]
        return Loss(found.total, found.hits, Each(found.losses, found.right))

    def guess(self, head: MaskedTokenHead, forward: Forward, places_M: np.ndarray) -> Tensor:
        """``(M, V)`` the logits at places of a batch."""
        encoder = forward.encoder
        x_MD = states_at(self.decoder, encoder, forward.output, forward.batch, sent(places_M, encoder.device))
        return head(x_MD, encoder.token_table)
