"""The training side of ``answer``: where an answer begins, and where it ends.

Shapes: T tokens, S windows, L the longest, G right answers in all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch, unpack
from bothways.learn.objectives.protocol import Each, Forward, Loss, Targets
from bothways.learn.tasks.guessing import NEVER, Guessing


@dataclass(frozen=True)
class LearnAnswers(Guessing):
    """Cross-entropy of beginning and end over the places of a window where an answer may be.

    Where a window holds several right places their shares are summed (Clark and Gardner 2018). Targets:
    ``answer.allowed`` ``(T,)`` and ``answer.gold`` ``(T, 2)`` booleans, where answers may and do begin and end, and
    ``answer.windows`` ``()``, S.
    """

    name = "answer"
    heads = ("answer",)

    def targets(self, batch: TokenBatch, examples: list[Sequence[Any]]) -> Targets:
        """Where answers are."""
        gold = np.zeros((batch.tokens, 2), dtype=bool)
        for begin, example in zip(batch.starts[:-1].tolist(), examples, strict=True):
            for side in (0, 1):
                gold[begin + example[2][:, side], side] = True
        allowed = np.concatenate([example[3] for example in examples])
        windows = np.array(batch.sequences)
        return {"answer.allowed": allowed, "answer.gold": gold, "answer.windows": windows}

    def count(self, targets: Targets) -> int:
        """2S: a beginning and an end for each window."""
        return 2 * int(targets["answer.windows"])

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(2S, L)``: over the places of each window how an answer begins, then the same for how it ends."""
        scores_T2: Tensor = model["answer"](forward.output)
        allowed = torch.from_numpy(targets["answer.allowed"]).to(scores_T2.device)
        return _rows(scores_T2.masked_fill(~allowed[:, None], NEVER), forward.batch, NEVER)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the cross-entropies, float32; ``hits`` counts beginnings and ends that were guessed right."""
        logits = self.logits(model, forward, targets)
        gold = _rows(torch.from_numpy(targets["answer.gold"]).to(logits.device), forward.batch, False)
        right = torch.logsumexp(logits.masked_fill(~gold, NEVER), -1)
        losses = torch.logsumexp(logits, -1) - right
        hits = gold.gather(1, logits.detach().argmax(-1, keepdim=True)).squeeze(1)
        return Loss(losses.sum(), hits.sum(dtype=torch.float32), Each(losses.detach(), hits))


def _rows(values_T2: Tensor, batch: TokenBatch, fill: Any) -> Tensor:
    """From ``(T, 2)`` to ``(2S, L)``, a row a window."""
    rows_SL2 = unpack(values_T2, batch, fill)
    return rows_SL2.movedim(-1, 0).flatten(0, 1)
