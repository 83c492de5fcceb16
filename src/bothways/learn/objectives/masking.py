"""Which tokens are to be guessed, and what stands in their places (Devlin et al. 2018, section 3.1, appendix A.1).

15 % of the tokens are chosen; of these 80 % become ``[MASK]``, 10 % a random token, 10 % stay as they are. Which ones
is decided anew in every epoch (dynamic masking, Liu et al. 2019, section 4.1) and depends on nothing but seed, epoch
and example: five random numbers a token, drawn from a generator of the sequence's own, decide everything.

What is chosen are units: tokens, whole words or spans (`units`). How many, is decided like this: the units of a
sequence lie in random order around a circle, as long as they have tokens; those that begin inside an arc of so many
tokens as the rate asks for, at least one, are chosen. So every unit, long or short, is chosen with the probability of
the rate, and a sequence has never more tokens chosen than the rate asks for and the rest of one unit.

Shapes: T tokens in the packed batch, S sequences, U units, M chosen places, V the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives import units
from bothways.learn.objectives.choices import MaskUnit
from bothways.learn.objectives.protocol import Key
from bothways.learn.objectives.settings import ObjectiveSettings
from bothways.learn.objectives.units import Units
from bothways.text.encoded import gather_index
from bothways.text.spelling import Edges
from bothways.text.tokenizer import Tokenizer


class Actions(NamedTuple):
    """What becomes of a chosen token: shares that add up to 1."""

    mask: float
    random: float
    keep: float


BERT = Actions(mask=0.8, random=0.1, keep=0.1)
ELECTRA = Actions(mask=0.85, random=0.0, keep=0.15)
"""Of what ELECTRA's generator is given, as in its authors' code (Clark et al. 2020): no random tokens."""


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


class _Chance(NamedTuple):
    """Random numbers from 0 to 1, ``(T,)`` each: what they decide."""

    order: np.ndarray
    arc: np.ndarray
    length: np.ndarray
    action: np.ndarray
    token: np.ndarray


@dataclass(frozen=True)
class Masking:
    """How tokens are chosen and changed.

    Attributes:
        mask_id: The mask token.
        ordinary: ``(V,)`` ids that may be masked and that random tokens are drawn from: all but special tokens.
        rate: Share of the tokens of a sequence that are chosen, at least one where tokens are.
        rate_end: Its value at the end of the run, reached evenly; None keeps it.
        actions: What becomes of them: decided for each token, of a span for all its tokens alike.
        seed: Of the run.
        unit: What is chosen as a whole: ``"token"``, ``"word"`` or ``"span"``.
        edges: Which tokens begin and end words; needed for words and spans.
    """

    mask_id: int
    ordinary: np.ndarray
    rate: float = 0.15
    rate_end: float | None = None
    actions: Actions = BERT
    seed: int = 0
    unit: MaskUnit = "token"
    edges: Edges | None = None

    @classmethod
    def of(cls, tokenizer: Tokenizer, *, unit: MaskUnit = "token", **settings: object) -> Masking:
        """The masking for a tokenizer.

        Raises:
            BothwaysError: Words or spans are to be masked, and the tokens do not say where words begin.
        """
        ordinary = np.setdiff1d(np.arange(tokenizer.size), list(tokenizer.special_ids))
        edges = None if unit == "token" else tokenizer.word_edges
        return cls(mask_id=tokenizer.mask_id, ordinary=ordinary, unit=unit, edges=edges, **settings)  # type: ignore[arg-type]

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
        drawn = [generator("mask", self.seed, *key).random((5, n)) for key, n in zip(keys, batch.lengths, strict=True)]
        chance = _Chance(*np.concatenate([np.empty((5, 0)), *drawn], axis=1))
        rate = self.rate_at(progress)
        among = self._units(batch, chance, rate)
        chosen = _chosen(among, batch, chance, rate)
        starts, lengths = among.starts[chosen], among.lengths[chosen]
        places = gather_index(starts, lengths)
        labels = batch.token_ids[places]
        action = chance.action[np.repeat(starts, lengths) if self.unit == "span" else places]
        random = self.ordinary[(chance.token[places] * len(self.ordinary)).astype(np.int64)]
        token_ids = batch.token_ids.copy()
        token_ids[places] = np.select(
            [action < self.actions.mask, action >= 1 - self.actions.random], [self.mask_id, random], labels
        )
        return Masked(batch.with_tokens(token_ids), places, labels)

    def _units(self, batch: TokenBatch, chance: _Chance, rate: float) -> Units:
        maskable = np.isin(batch.token_ids, self.ordinary, kind="table")
        if self.unit == "token":
            return units.tokens(maskable)
        assert self.edges is not None
        words = units.words(batch, maskable, self.edges)
        return words if self.unit == "word" else units.spans(batch, words, chance.length, rate)


def _chosen(among: Units, batch: TokenBatch, chance: _Chance, rate: float) -> np.ndarray:
    """The numbers of the chosen units, ascending; see the rule at the top."""
    sequence = batch.sequence_of_token[among.starts]
    tokens_S = np.bincount(sequence, among.lengths, minlength=batch.sequences).astype(np.int64)
    wanted_S = np.maximum(1, np.rint(rate * tokens_S))
    shuffled = np.lexsort((chance.order[among.starts], sequence))
    begins = np.cumsum(among.lengths[shuffled]) - among.lengths[shuffled]
    begins -= (np.cumsum(tokens_S) - tokens_S)[sequence]  # the order within sequences only: `sequence` is as it was
    arcs_S = (chance.arc[batch.starts[:-1]] * tokens_S).astype(np.int64)
    inside = (begins - arcs_S[sequence]) % tokens_S[sequence] < wanted_S[sequence]
    return np.sort(shuffled[inside])


def masking_of(
    settings: ObjectiveSettings, tokenizer: Tokenizer, actions: Actions = BERT, usual_rate: float = 0.15
) -> Masking:
    """The masking that a run's settings ask for.

    Args:
        settings: Of the run.
        tokenizer: What made the tokens.
        actions: What becomes of chosen tokens.
        usual_rate: The share that the objective's paper takes, for settings that name none.

    Raises:
        BothwaysError: Words or spans are to be masked, and the tokens do not say where words begin.
    """
    rate = usual_rate if settings.mask_rate is None else settings.mask_rate
    return Masking.of(
        tokenizer,
        unit=settings.mask_unit,
        rate=rate,
        rate_end=settings.mask_rate_end,
        actions=actions,
        seed=settings.seed,
    )
