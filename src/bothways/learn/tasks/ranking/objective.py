"""What a cross-encoder learns from the texts of a query, compared with each other.

Shapes: S sequences, one a text; Q queries; C the most texts of one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Forward, Key, Loss, Targets
from bothways.learn.tasks.distances import symmetric_divergence
from bothways.learn.tasks.guessing import NEVER, sequences_of_examples
from bothways.learn.tasks.ranking.losses import RankingLoss


@dataclass(frozen=True)
class LearnRanking:
    """A loss over the texts of each query; a query is guessed right where one of its best texts is the first.

    Targets: ``rerank.sequences`` ``(Q, C)``, the place in the batch of each text, -1 where a query has fewer, and
    ``rerank.relevance`` ``(Q, C)`` float32.

    Attributes:
        mark: Marks the tokens of a batch that are global while a head is at work, as `Model.mark` does.
        compare: The loss.
    """

    mark: Callable[[TokenBatch, str], TokenBatch]
    compare: RankingLoss
    name = "rerank"
    heads = ("classify",)
    hidden = False
    guesses = True

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Puts beside a batch which of its sequences are texts of one query, and how relevant they are."""
        table, found = sequences_of_examples(batch, examples)
        relevance = np.zeros(table.shape, dtype=np.float32)
        for row, example in zip(relevance, found, strict=True):
            row[: len(example[2])] = example[2]
        return self.mark(batch, "classify"), {"rerank.sequences": table, "rerank.relevance": relevance}

    def count(self, targets: Targets) -> int:
        """Q, the number of queries."""
        return len(targets["rerank.sequences"])

    def looks_at(self, model: nn.ModuleDict, batch: TokenBatch, targets: Targets) -> np.ndarray | None:
        """Those that its head looks at."""
        return model["classify"].places(batch.starts)  # type: ignore[operator]

    def logits(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Tensor:
        """``(Q, C)``."""
        scores_S: Tensor = model["classify"](forward.output)[:, 0]
        table = torch.from_numpy(targets["rerank.sequences"]).to(scores_S.device)
        return scores_S[table.clamp(min=0)].masked_fill(table < 0, NEVER)

    def distance(self, one: Tensor, other: Tensor, targets: Targets) -> Tensor:
        """The symmetric divergence of what each says is first."""
        return symmetric_divergence(one, other)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum over the queries, float32."""
        scores = self.logits(model, forward, targets)
        relevance = torch.from_numpy(targets["rerank.relevance"]).to(scores.device)
        there = torch.from_numpy(targets["rerank.sequences"] >= 0).to(scores.device)
        best = relevance.masked_fill(~there, NEVER).max(-1).values
        first = relevance.gather(1, scores.detach().argmax(-1, keepdim=True))[:, 0]
        return Loss(self.compare(scores, relevance, there).sum(), (first == best).sum(dtype=torch.float32))
