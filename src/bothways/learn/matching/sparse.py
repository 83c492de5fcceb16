"""Sparse vectors learn to be alike where texts belong together, and to be sparse.

Formal, Lassance, Piwowarski and Clinchant 2021, "SPLADE v2: Sparse Lexical and Expansion Model for Information
Retrieval": in-batch negatives, and the FLOPS regulariser of Paria et al. 2020, "Minimizing FLOPs to Learn Efficient
Sparse Representations", whose weight grows with the square of the steps over the first third of the run.

Shapes: S texts of a step, V vocabulary, G queries, C candidates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.model.heads.sparse import sparse_vectors

_RISE = 1 / 3
"""Share of the run in which the weight of the regulariser grows."""


@dataclass(frozen=True)
class SparseMatcher:
    """Products of sparse vectors.

    Attributes:
        way: How tokens' logits become weights: a name in `bothways.model.heads.sparse.WAYS`.
        query_flops: What sparseness of queries counts.
        document_flops: What that of the other texts counts.
    """

    way: str
    query_flops: float
    document_flops: float
    name = "sparse"
    others = ("flops",)

    def represent(self, model: nn.ModuleDict, batch: TokenBatch) -> Tensor:
        """``(S, V)`` float32."""
        output = model["encoder"](batch)
        return sparse_vectors(model["mlm"], output.sequence, model["encoder"].token_table, output.starts, self.way)  # type: ignore[arg-type]

    def scores(self, states: Tensor, batch: TokenBatch, asked: np.ndarray, candidates: np.ndarray) -> Tensor:
        """``(G, C)`` float32 products."""
        one, other = (states[torch.from_numpy(places).to(states.device)] for places in (asked, candidates))
        return one @ other.T

    def beside(self, states: Tensor, asked: np.ndarray, candidates: np.ndarray, progress: float) -> dict[str, Tensor]:
        """``flops``: the squared mean weight of each word, summed over the vocabulary."""
        share = min(1.0, progress / _RISE) ** 2
        sides = ((asked, self.query_flops), (candidates, self.document_flops))
        parts = [
            share * weight * states[torch.from_numpy(places).to(states.device)].mean(0).square().sum()
            for places, weight in sides
        ]
        return {"flops": torch.stack(parts).sum()}
