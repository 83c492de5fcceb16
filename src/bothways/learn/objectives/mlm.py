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
from bothways.learn.objectives.choices import MaskDecoder, MaskOrder
from bothways.learn.objectives.masking import Masking
from bothways.learn.objectives.permuting import permuted, turns
from bothways.learn.objectives.protocol import Each, Forward, Key, Loss, Targets
from bothways.learn.utilisation import guess_work
from bothways.model.config import EncoderConfig
from bothways.model.heads.enhanced_mask_decoder import states_at
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.parts.devices import sent


@dataclass(frozen=True)
class MaskedTokens:
    """The objective; its targets are ``mlm.places`` ``(M,)``, ascending, and ``mlm.labels`` ``(M,)``.

    If they are guessed one after the other, there are also ``mlm.turns`` ``(M,)``, which comes when; ``mlm.given``, the
    batch that the encoder is given instead; and ``mlm.guessing`` ``(M,)``, where in it they are guessed.

    Attributes:
        masking: How tokens are chosen and changed.
        decoder: What the head guesses from: ``"plain"`` hidden states, or DeBERTa's ``"enhanced"`` mask decoder.
        order: Whether each is guessed without the others or one after the other, as MPNet does.
    """

    masking: Masking
    decoder: MaskDecoder = "plain"
    order: MaskOrder = "at-once"
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
        targets: Targets = {"mlm.places": masked.places, "mlm.labels": masked.labels}
        if self.order == "permuted":
            turns_M = turns(masked.places, batch.starts, keys, self.masking.seed)
            given = permuted(masked.batch, masked.places, masked.labels, turns_M)
            targets |= {"mlm.turns": turns_M, "mlm.given": given.batch, "mlm.guessing": given.guessing}
        return masked.batch, targets

    def given(self, batch: TokenBatch, targets: Targets) -> TokenBatch:
        """What the encoder is given of a batch: as many sequences in the same order."""
        return targets["mlm.given"] if self.order == "permuted" else batch

    def count(self, targets: Targets) -> int:
        """M, the number of chosen places."""
        return len(targets["mlm.places"])

    def work(self, config: EncoderConfig, targets: Targets) -> float:
        """Multiplications of the head at the chosen places, forward."""
        return len(targets["mlm.places"]) * guess_work(config)

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """The chosen ones, where the last layer is all that the head reads."""
        return None if self.hidden else self._guessing(targets)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies at the chosen places, float32; ``hits`` counts right guesses."""
        encoder = forward.encoder
        places, labels = (sent(each, encoder.device) for each in (self._guessing(targets), targets["mlm.labels"]))
        x_MD = states_at(self.decoder, encoder, forward.output, forward.batch, places)
        found = model["mlm"].guesses(x_MD, encoder.token_table, labels)  # type: ignore[operator]
        return Loss(found.total, found.hits, Each(found.losses, found.right))

    def guess(self, head: MaskedTokenHead, forward: Forward, places_M: np.ndarray) -> Tensor:
        """``(M, V)`` the logits at places of a batch."""
        encoder = forward.encoder
        x_MD = states_at(self.decoder, encoder, forward.output, forward.batch, sent(places_M, encoder.device))
        return head(x_MD, encoder.token_table)

    def _guessing(self, targets: Targets) -> np.ndarray:
        return targets["mlm.places" if self.order == "at-once" else "mlm.guessing"]
