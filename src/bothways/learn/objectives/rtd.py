"""Replaced-token detection (Clark et al. 2020, "ELECTRA", section 2): which tokens did a generator put here?

A small masked language model, the generator, stands before the encoder. It learns from the masked places, draws a token
for each of them from what it believes, and the encoder, now called the discriminator, says of every token of the text
whether it is the one that stood there. A token that the generator guessed right counts as original. Nothing of the
discriminator's loss reaches the generator, for a drawn token has no gradient.

Of the masked places 85 % are ``[MASK]`` and 15 % keep their tokens. The discriminator's loss counts 50 times.

Shapes: T tokens, M masked places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives.masking import ELECTRA, masking_of
from bothways.learn.objectives.mlm import MaskedTokens
from bothways.learn.objectives.protocol import Each, Forward, Key, Loss, Targets
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.protocol import Item
from bothways.learn.utilisation import TRAINED, batch_work, guess_work
from bothways.model.config import EncoderConfig
from bothways.model.encoder import Encoder
from bothways.model.heads.enhanced_mask_decoder import states_at
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.parts.devices import sent
from bothways.text.tokenizer import Tokenizer

WEIGHT = 50.0
"""Of the discriminator's loss beside the generator's (Clark et al. 2020, section 2 and table 6)."""
GENERATOR, GENERATOR_HEAD = "generator", "generator_mlm"
"""Where the generator and its head lie in what is trained."""


@dataclass(frozen=True)
class ReplacedTokens:
    """The objective of the discriminator, and what the generator is given.

    Its targets are those of masked tokens and ``rtd.draws`` ``(M,)``, uniform numbers that decide what the generator
    draws; ``rtd.originals`` ``(T,)``, the tokens of the text; and, once the generator has drawn, ``rtd.replaced``
    ``(T,)``, whether another token stands there now.

    Attributes:
        masked: How tokens are masked for the generator.
        seed: Of the draws.
    """

    masked: MaskedTokens
    seed: int = 0
    name = "rtd"
    heads = ("rtd",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Masks a batch for the generator."""
        masked, targets = self.masked.prepare(batch, keys, examples, progress)
        counts = np.diff(np.searchsorted(targets["mlm.places"], batch.starts))
        draws = [
            generator("replace", self.seed, *key).random(count, dtype=np.float32)
            for key, count in zip(keys, counts, strict=True)
        ]
        drawn = np.concatenate([np.empty(0, dtype=np.float32), *draws])
        return masked, targets | {"rtd.draws": drawn, "rtd.originals": batch.token_ids}

    def count(self, targets: Targets) -> int:
        """T, the number of all tokens."""
        return len(targets["rtd.originals"])

    def work(self, config: EncoderConfig, targets: Targets) -> float:
        """Multiplications of the head, forward."""
        return len(targets["rtd.originals"]) * config.width * (config.width + 1)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies over all tokens, float32; ``hits`` counts right guesses."""
        logits_T = model["rtd"](forward.output)
        replaced_T = targets["rtd.replaced"]
        losses_T = functional.binary_cross_entropy_with_logits(logits_T, replaced_T.float(), reduction="none")
        right_T = (logits_T.detach() > 0) == replaced_T
        return Loss(losses_T.sum(), right_T.sum(dtype=torch.float32), Each(losses_T.detach(), right_T))


@dataclass(frozen=True)
class Replacing:
    """The generator at work: learns masked tokens, and puts others in their places.

    It finds itself in the trained modules under ``"generator"``, and its head under ``"generator_mlm"``.

    Attributes:
        masked: How its tokens are masked, and which mask decoder it guesses from.
    """

    masked: MaskedTokens
    names = ("mlm",)

    def counts(self, item: Item) -> dict[str, int]:
        """M, the number of masked places."""
        return {"mlm": self.masked.count(item[1])}

    def work(self, model: nn.ModuleDict, item: Item) -> float:
        """Multiplications of encoder and head, forward and backward."""
        config: EncoderConfig = model[GENERATOR].config  # type: ignore[assignment]
        count = self.masked.count(item[1])
        places = None if self.masked.hidden else count
        return TRAINED * (batch_work(config, item[0].plan, places) + count * guess_work(config))

    def rewrite(self, model: nn.ModuleDict, item: Item) -> tuple[dict[str, Loss], Item]:
        """Its loss, and the text with a token of its own at each masked place."""
        batch, targets = item
        encoder: Encoder = model[GENERATOR]  # type: ignore[assignment]
        head: MaskedTokenHead = model[GENERATOR_HEAD]  # type: ignore[assignment]
        names = ("mlm.places", "mlm.labels", "rtd.draws", "rtd.originals")
        places_M, labels_M, draws_M, originals_T = (sent(targets[n], encoder.device) for n in names)
        output = encoder(batch, hidden=self.masked.hidden, pooled=False, places=targets["mlm.places"])
        states_MD = states_at(self.masked.decoder, encoder, output, batch, places_M)
        found = head.guesses(states_MD, encoder.token_table, labels_M, draws_M)
        tokens_T = originals_T.index_copy(0, places_M, found.drawn)
        after: Targets = {**targets, "rtd.replaced": tokens_T != originals_T}
        losses = {"mlm": Loss(found.total, found.hits, Each(found.losses, found.right))}
        return losses, (batch.with_tokens(tokens_T), after)

    def guess(self, model: nn.ModuleDict, item: Item, places_M: np.ndarray) -> Tensor:
        """``(M, V)`` its logits at masked places of a batch."""
        encoder: Encoder = model[GENERATOR]  # type: ignore[assignment]
        head: MaskedTokenHead = model[GENERATOR_HEAD]  # type: ignore[assignment]
        output = encoder(item[0], hidden=self.masked.hidden, pooled=False, places=np.unique(places_M))
        return self.masked.guess(head, Forward(encoder, item[0], output), places_M)


def discriminator_of(settings: ObjectiveSettings, tokenizer: Tokenizer) -> list[ReplacedTokens]:
    """The discriminator's objective, as a run's settings ask for it."""
    return [ReplacedTokens(_masked(settings, tokenizer), settings.seed)]


def generator_of(settings: ObjectiveSettings, tokenizer: Tokenizer) -> Replacing:
    """The generator's work, as a run's settings ask for it."""
    return Replacing(_masked(settings, tokenizer))


def _masked(settings: ObjectiveSettings, tokenizer: Tokenizer) -> MaskedTokens:
    return MaskedTokens(masking_of(settings, tokenizer, ELECTRA), settings.mask_decoder or "plain")


def usual_rate(config: EncoderConfig) -> float:
    """The share of tokens that is masked for a discriminator of the given size (Clark et al. 2020, table 6)."""
    return 0.25 if config.width >= 1024 else 0.15
