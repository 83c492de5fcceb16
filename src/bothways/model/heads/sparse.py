"""Sparse vectors over the vocabulary: what a masked-token head expects anywhere in a text (SPLADE).

Formal, Piwowarski and Clinchant 2021, "SPLADE: Sparse Lexical and Expansion Model for First Stage Ranking", equation 1
(the sum over tokens); Formal, Lassance, Piwowarski and Clinchant 2021, "SPLADE v2", equation 4 (the maximum).

Shapes: T tokens, S sequences, D width, E width of the token table, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from bothways.model.heads.mlm import MaskedTokenHead

_TOKENS = 512
"""Tokens whose logits are in memory at once: 60 MB of float32 for a vocabulary of 30,000."""


def sparse_vectors(head: MaskedTokenHead, x_TD: Tensor, table_VE: Tensor, starts: np.ndarray, way: str) -> Tensor:
    """One weight a word of the vocabulary for each sequence, 0 or more; most are 0 once it is trained.

    Args:
        head: Scores the vocabulary.
        x_TD: ``(T, D)`` hidden states.
        table_VE: ``(V, E)`` the token table.
        starts: ``(S + 1,)`` where each sequence begins.
        way: A name in `WAYS`.

    Returns:
        ``(S, V)`` float32, with gradients; the logits of at most some hundred tokens are held at a time.
    """
    if not x_TD.requires_grad or not torch.is_grad_enabled():
        return torch.cat([_part(head, x_TD[a:b], table_VE, ends, way) for a, b, ends in _parts(starts)])
    parts = [
        checkpoint(_part, head, x_TD[a:b], table_VE, ends, way, use_reentrant=False) for a, b, ends in _parts(starts)
    ]
    return torch.cat(parts)


def _parts(starts: np.ndarray) -> list[tuple[int, int, list[int]]]:
    """Whole sequences of together not too many tokens: from where, to where, and how long each is."""
    found, begin = [], 0
    while begin < len(starts) - 1:
        end = max(begin + 1, int(np.searchsorted(starts, starts[begin] + _TOKENS, side="right")) - 1)
        found.append((int(starts[begin]), int(starts[end]), np.diff(starts[begin : end + 1]).tolist()))
        begin = end
    return found


def _part(head: MaskedTokenHead, x_TD: Tensor, table_VE: Tensor, lengths: list[int], way: str) -> Tensor:
    logits_TV = head(x_TD, table_VE)
    gather, twice = WAYS[way]
    if gather == "max":  # both functions grow, so that they need not be taken of every token
        found = _grown(torch.stack([own.amax(0) for own in logits_TV.split(lengths)]), twice)
    else:
        found = torch.stack([own.sum(0) for own in _grown(logits_TV, twice).split(lengths)])
    return found


def _grown(logits: Tensor, twice: bool) -> Tensor:
    found = torch.log1p(torch.relu(logits))
    return torch.log1p(found) if twice else found


WAYS = {
    "max": ("max", False),
    "sum": ("sum", False),
    "max_log": ("max", True),
    "sum_log": ("sum", True),
}
"""How tokens' logits become a text's weights: their maximum or sum, of log(1 + ReLU), or of that again of it."""
