"""Late interaction: a vector a token, and how well the tokens of a query find theirs in a text (ColBERT).

Khattab and Zaharia 2020, "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction over
BERT", sections 3.2 and 3.3.

Shapes: T tokens, S sequences, D width, P width of a token's vector, Q queries, N texts, L tokens of a sequence.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bothways.batch import Rectangle, TokenBatch
from bothways.model.encoder import Encoder, EncoderOutput
from bothways.model.parts.context import Context
from bothways.model.parts.padded import Padded

_PRODUCTS = 1 << 23
"""Products of tokens that are in memory at once: 32 MB."""


class LateHead(nn.Module):
    """A linear layer without bias from hidden states to vectors of length 1.

    Args:
        width: D.
        outputs: P.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.output = nn.Linear(width, outputs, bias=False)

    def forward(self, output: EncoderOutput) -> Tensor:
        """``(T, P)`` float32."""
        return functional.normalize(self.output(output.sequence).float(), dim=-1)


def maxsim(query_TP: Tensor, query_lengths: list[int], text_TP: Tensor, text_lengths: list[int]) -> Tensor:
    """For each query and text the sum, over the query's tokens, of the largest product with a token of the text.

    Args:
        query_TP: The vectors of the tokens of Q queries, one after the other.
        query_lengths: ``(Q,)``.
        text_TP: Those of N texts.
        text_lengths: ``(N,)``, at least 1.

    Returns:
        ``(Q, N)`` float32, with gradients; not all products are held at a time.
    """
    most = max(1, _PRODUCTS // max(1, len(query_TP)))
    parts, begin = [], 0
    while begin < len(text_lengths):
        end, tokens = begin + 1, text_lengths[begin]
        while end < len(text_lengths) and tokens + text_lengths[end] <= most:
            tokens += text_lengths[end]
            end += 1
        lengths, first = text_lengths[begin:end], sum(text_lengths[:begin])
        given = (query_TP, query_lengths, text_TP[first : first + tokens], lengths)
        whole = checkpoint(_best, *given, use_reentrant=False) if torch.is_grad_enabled() else _best(*given)
        parts.append(whole)
        begin = end
    return torch.cat(parts, dim=1)


def _best(query_TP: Tensor, query_lengths: list[int], text_TP: Tensor, text_lengths: list[int]) -> Tensor:
    products = query_TP @ text_TP.T
    best_TN = torch.stack([own.amax(1) for own in products.split(text_lengths, dim=1)], dim=1)
    return torch.stack([own.sum(0) for own in best_TN.split(query_lengths)])


def unseen_states(encoder: Encoder, batch: TokenBatch, seen_T: np.ndarray) -> EncoderOutput:
    """Hidden states where some tokens see the others of their sequence but are not seen by any.

    So are the mask tokens that ColBERT puts behind a query.

    Args:
        encoder: Any with full attention.
        batch: S sequences.
        seen_T: ``(T,)`` booleans, which tokens are seen.
    """
    output = encoder(batch)
    here, parts = encoder.at_door(batch), []
    for piece in batch.plan:
        own = slice(piece.start, piece.start + piece.tokens)
        parts.append(output.sequence[own] if seen_T[own].all() else _unseen(encoder, here, piece, seen_T[own]))
    return replace(output, sequence=torch.cat(parts))


def _unseen(encoder: Encoder, here: TokenBatch, piece: Rectangle, seen: np.ndarray) -> Tensor:
    """``(N · L, D)`` of one rectangle."""
    own = slice(piece.start, piece.start + piece.tokens)
    mask_NL = torch.from_numpy(seen.reshape(piece.sequences, piece.length)).to(encoder.device)
    starts = np.arange(piece.sequences + 1) * piece.length
    context = Context(plan=Padded.of(mask_NL), starts=starts, positions=here.positions[own])
    if encoder.scheme is not None:
        context = replace(context, prepared=encoder.scheme.prepare(context))  # type: ignore[operator]
    x_TD = encoder.embeddings(here.token_ids[own], here.positions[own], here.segment_ids[own])
    found: Tensor = encoder.stack(x_TD, context, None)
    return found
