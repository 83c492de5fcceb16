"""Which tokens are to be guessed, and what stands in their places (Devlin et al. 2018, section 3.1, appendix A.1).

15 % of the tokens are chosen; of these 80 % become ``[MASK]``, 10 % a random token, 10 % stay as they are. Which ones
is decided anew in every epoch (dynamic masking, Liu et al. 2019, section 4.1) and depends on nothing but seed, epoch
and example.

Shapes: T tokens in the packed batch, S sequences, M chosen places, V the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives.protocol import Key
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.text.tokenizer import Tokenizer


class Actions(NamedTuple):
    """What becomes of a chosen token: shares that add up to 1."""

    mask: float
    random: float
    keep: float


BERT = Actions(mask=0.8, random=0.1, keep=0.1)
ELECTRA = Actions(mask=0.85, random=0.0, keep=0.15)
"""Of a generator's input: no random tokens (Clark et al. 2020, "ELECTRA", appendix A, and its code)."""


class Masked(NamedTuple):
    """A batch with tokens to guess.

    Attributes:
        batch: With its chosen tokens changed.
        places: ``(M,)`` where they are, ascending.
        labels: ``(M,)`` what stood there.
    """

    batch: TokenBatch
    places: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Masking:
    """How tokens are chosen and changed.

    Attributes:
        mask_id: The mask token.
        ordinary: ``(V,)`` ids that may be masked and that random tokens are drawn from: all but special tokens.
        rate: Share of the tokens of a sequence that are chosen, at least one.
        rate_end: Its value at the end of the run, reached evenly; None keeps it.
        actions: What becomes of them.
        seed: Of the run.
    """

    mask_id: int
    ordinary: np.ndarray
    rate: float = 0.15
    rate_end: float | None = None
    actions: Actions = BERT
    seed: int = 0

    @classmethod
    def of(cls, tokenizer: Tokenizer, **settings: object) -> Masking:
        """The masking for a tokenizer."""
        ordinary = np.setdiff1d(np.arange(tokenizer.size), list(tokenizer.special_ids))
        return cls(mask_id=tokenizer.mask_id, ordinary=ordinary, **settings)  # type: ignore[arg-type]

    def rate_at(self, progress: float) -> float:
        """The share that is chosen when a share `progress` of the run is over."""
        return self.rate if self.rate_end is None else self.rate + (self.rate_end - self.rate) * progress

    def apply(self, batch: TokenBatch, keys: list[Key], progress: float = 0.0) -> Masked:
        """Masks a batch.

        Args:
            batch: S sequences of NumPy arrays.
            keys: Epoch and example id of each sequence, in the order of the batch.
            progress: Share of the run's steps taken before.
        """
        rate = self.rate_at(progress)
        token_ids = batch.token_ids.copy()
        maskable = np.isin(token_ids, self.ordinary, kind="table")
        chosen = []
        for key, start, end in zip(keys, batch.starts[:-1], batch.starts[1:], strict=True):
            draw = generator("mask", self.seed, *key)
            candidates = start + np.flatnonzero(maskable[start:end])
            count = min(len(candidates), max(1, round(rate * len(candidates))))
            places = np.sort(draw.permutation(candidates)[:count])
            action = draw.random(count)
            token_ids[places[action < self.actions.mask]] = self.mask_id
            replaced = places[action >= 1 - self.actions.random]
            token_ids[replaced] = draw.choice(self.ordinary, size=len(replaced))
            chosen.append(places)
        places = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
        return Masked(batch.with_tokens(token_ids), places, batch.token_ids[places])


def masking_of(
    settings: ObjectiveSettings, tokenizer: Tokenizer, actions: Actions = BERT, usual_rate: float = 0.15
) -> Masking:
    """The masking that a run's settings ask for.

    Args:
        settings: Of the run.
        tokenizer: What made the tokens.
        actions: What becomes of chosen tokens.
        usual_rate: The share that the objective's paper takes, for settings that name none.
    """
    rate = usual_rate if settings.mask_rate is None else settings.mask_rate
    return Masking.of(tokenizer, rate=rate, rate_end=settings.mask_rate_end, actions=actions, seed=settings.seed)
