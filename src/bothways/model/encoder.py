"""The encoder: embeddings, a stack of blocks, and a pooled output if the family has one.

Shapes: T tokens in the packed batch, S sequences, L a sequence's length, H heads, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from bothways.batch import Array, TokenBatch
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.parts.stack import Stack


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder returns, all in the order of the packed batch.

    Attributes:
        sequence: ``(T, D)`` the hidden state of each token.
        pooled: ``(S, D)`` one vector a sequence, or None if the encoder has no pooler.
        hidden: The embeddings' and each layer's output ``(T, D)``, if asked for.
        attentions: For each layer and sequence the attention weights ``(H, L, L)``, if asked for.
    """

    sequence: Tensor
    pooled: Tensor | None
    hidden: list[Tensor] | None = None
    attentions: list[list[Tensor]] | None = None


class Encoder(nn.Module):
    """An ordinary module that speaks `TokenBatch`.

    Args:
        config: What it was built from.
        embeddings: From ids, positions and segments ``(T,)`` to ``(T, D)``.
        stack: From ``(T, D)`` and the plan to ``(T, D)``.
        pooler: From ``(S, D)`` to ``(S, D)``, or None.
    """

    def __init__(self, config: EncoderConfig, embeddings: nn.Module, stack: Stack, pooler: nn.Module | None) -> None:
        super().__init__()
        self.config = config
        self.embeddings = embeddings
        self.stack = stack
        self.pooler = pooler

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def token_table(self) -> Tensor:
        """``(V, width of the embeddings)``: the token table, which masked-token heads share."""
        return self.embeddings.tokens.weight  # type: ignore[union-attr, return-value]

    def forward(self, batch: TokenBatch, *, hidden: bool = False, attentions: bool = False) -> EncoderOutput:
        """Encodes a batch.

        Args:
            batch: Token arrays of NumPy or torch; they are moved to the encoder's device here.
            hidden: Whether every layer's output is wanted.
            attentions: Whether attention weights are wanted.

        Raises:
            BothwaysError: A sequence is empty or longer than the position table, or an id is outside its table.
        """
        batch = self.at_door(batch)
        x_TD = self.embeddings(batch.token_ids, batch.positions, batch.segment_ids)
        layers: list[Tensor] | None = [x_TD] if hidden else None
        weights: list[list[Tensor]] | None = [] if attentions else None
        x_TD = self.stack(x_TD, batch.plan, layers, weights)
        pooled = None
        if self.pooler is not None:
            first = torch.from_numpy(batch.starts[:-1]).to(x_TD.device)
            pooled = self.pooler(x_TD.index_select(0, first))
        return EncoderOutput(x_TD, pooled, layers, weights)

    def at_door(self, batch: TokenBatch) -> TokenBatch:
        """The batch with its token arrays as tensors on this encoder's device, checked against its tables."""
        if self.config.longest is not None and batch.longest > self.config.longest:
            raise BothwaysError(
                f"a sequence has {batch.longest} tokens, but this model takes at most {self.config.longest}; "
                "cut it (max_length, truncation) or use a model with more positions"
            )
        if not batch.lengths.all():
            raise BothwaysError("a sequence has no tokens; leave it out of the batch")
        tables = self.config.embeddings
        _check_ids(batch.token_ids, tables.vocab_size, "token", "the tokenizer belongs to another model")
        _check_ids(batch.segment_ids, tables.segments, "segment", "this model knows fewer segments")
        device = self.device
        token_ids, segment_ids, positions = (
            torch.as_tensor(array).to(device, torch.int64)
            for array in (batch.token_ids, batch.segment_ids, batch.positions)
        )
        return replace(batch, token_ids=token_ids, segment_ids=segment_ids, positions=positions)


def _check_ids(ids: Array, count: int, what: str, why: str) -> None:
    """Refuses ids that a table does not have, which a GPU would only answer with a failed assertion."""
    if len(ids) and not (0 <= (lowest := int(ids.min())) <= (highest := int(ids.max())) < count):
        wrong = lowest if lowest < 0 else highest
        raise BothwaysError(f"{what} id {wrong} is outside the model's table of {count}; {why}")
