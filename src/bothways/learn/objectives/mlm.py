"""Masked language modelling (Devlin et al. 2018, section 3.1, appendix A.1).

15 % of the tokens are chosen; of these 80 % become ``[MASK]``, 10 % a random token, 10 % stay as they are; all of them
are to be guessed. Which ones is decided anew in every epoch (dynamic masking, Liu et al. 2019, section 4.1) and depends
on nothing but seed, epoch and example.

Shapes: T tokens in the packed batch, S sequences, M chosen places.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bothways.batch import TokenBatch
from bothways.chance import generator
from bothways.learn.objectives.protocol import Key, Loss, Targets
from bothways.model.encoder import EncoderOutput
from bothways.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class MaskedTokens:
    """The objective.

    Attributes:
        mask_id: The mask token.
        ordinary: ``(T,)`` ids that may be masked and that random tokens are drawn from: all but special tokens.
        rate: Share of the tokens of a sequence that are chosen, at least one.
        seed: Of the run.
    """

    mask_id: int
    ordinary: np.ndarray
    rate: float = 0.15
    seed: int = 0
    name = "mlm"
    head = "mlm"

    @classmethod
    def of(cls, tokenizer: Tokenizer, rate: float = 0.15, seed: int = 0) -> MaskedTokens:
        """The objective for a tokenizer."""
        ordinary = np.setdiff1d(np.arange(tokenizer.size), list(tokenizer.special_ids))
        return cls(mask_id=tokenizer.mask_id, ordinary=ordinary, rate=rate, seed=seed)

    def prepare(self, batch: TokenBatch, keys: list[Key]) -> tuple[TokenBatch, Targets]:
        """Masks a batch.

        Args:
            batch: S sequences of NumPy arrays.
            keys: Epoch and example id of each sequence, in the order of the batch.

        Returns:
            The batch with its chosen tokens changed, and the targets: ``mlm.places`` ``(M,)`` where they are,
            ascending, and ``mlm.labels`` ``(M,)`` what stood there.
        """
        token_ids = batch.token_ids.copy()
        maskable = np.isin(token_ids, self.ordinary, kind="table")
        chosen = []
        for key, start, end in zip(keys, batch.starts[:-1], batch.starts[1:], strict=True):
            draw = generator("mask", self.seed, *key)
            candidates = start + np.flatnonzero(maskable[start:end])
            count = min(len(candidates), max(1, round(self.rate * len(candidates))))
            places = np.sort(draw.permutation(candidates)[:count])
            action = draw.random(count)
            token_ids[places[action < 0.8]] = self.mask_id
            replaced = places[action >= 0.9]
            token_ids[replaced] = draw.choice(self.ordinary, size=len(replaced))
            chosen.append(places)
        places = np.concatenate(chosen) if chosen else np.empty(0, dtype=np.int64)
        return batch.with_tokens(token_ids), {"mlm.places": places, "mlm.labels": batch.token_ids[places]}

    def count(self, targets: Targets) -> int:
        """M, the number of chosen places."""
        return len(targets["mlm.places"])

    def loss(self, model: nn.ModuleDict, output: EncoderOutput, targets: Targets) -> Loss:
        """The sum of the cross-entropies at the chosen places, float32; ``hits`` counts right guesses."""
        device = output.sequence.device
        places = torch.from_numpy(targets["mlm.places"]).to(device)
        labels = torch.from_numpy(targets["mlm.labels"]).to(device)
        hidden_MD = output.sequence.index_select(0, places)
        total, hits = model["mlm"].loss(hidden_MD, model["encoder"].token_table, labels)  # type: ignore[operator]
        return Loss(total, hits)
