"""The encoder: embeddings, a stack of blocks, and a pooled output if the family has one.

Shapes: T tokens in the packed batch, M of them that are wanted, S sequences, L a sequence's length, H heads, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import Array, TokenBatch
from bothways.errors import BothwaysError
from bothways.model.config import EncoderConfig
from bothways.model.parts.context import Context
from bothways.model.parts.devices import sent, sums
from bothways.model.parts.sight import refusal as sight_refusal
from bothways.model.parts.stack import Stack


@dataclass(frozen=True)
class EncoderOutput:
    """What an encoder returns, all in the order of the packed batch.

    Attributes:
        sequence: ``(T, D)`` the hidden state of each token, or ``(M, D)`` of those that were wanted.
        starts: ``(S + 1,)`` where each sequence begins, on the host.
        pooled: ``(S, D)`` one vector a sequence, or None if the encoder has no pooler.
        hidden: The embeddings' and each layer's output ``(T, D)``, if asked for.
        attentions: For each layer and sequence the attention weights ``(H, L, L)``, if asked for.
        places: ``(M,)`` the tokens that were wanted, ascending; None: all.
    """

    sequence: Tensor
    starts: np.ndarray
    pooled: Tensor | None
    hidden: list[Tensor] | None = None
    attentions: list[list[Tensor]] | None = None
    places: Tensor | None = None

    def at(self, places_N: Tensor | np.ndarray) -> Tensor:
        """``(N, D)`` the hidden states of some tokens, each of those that were wanted."""
        places_N = sent(places_N, self.sequence.device)
        if self.places is None:
            return self.sequence.index_select(0, places_N)
        found_N = torch.searchsorted(self.places, places_N)
        if found_N.is_cpu:  # a GPU would have to be waited for
            assert torch.equal(self.places[found_N], places_N), "a token is looked at that was not wanted"
        return self.sequence.index_select(0, found_N)

    def vectors(self, reads: str) -> Tensor:
        """One vector a sequence.

        Args:
            reads: ``"pooled"``, ``"first"`` (token) or ``"mean"``.

        Returns:
            ``(S, D)``.
        """
        if reads == "pooled":
            assert self.pooled is not None  # a head that reads it is not built without it
            return self.pooled
        if reads == "first":
            return self.at(self.starts[:-1])
        lengths = self._lengths()
        return (sums(self.sequence.float(), lengths) / lengths[:, None]).to(self.sequence.dtype)

    def at_each_token(self, x_SD: Tensor) -> Tensor:
        """``(T, D)``: for each token what ``(S, D)`` holds for its sequence."""
        return x_SD.repeat_interleave(self._lengths(), 0, output_size=len(self.sequence))

    def _lengths(self) -> Tensor:
        return sent(np.diff(self.starts), self.sequence.device)


def places_read(reads: str, starts: np.ndarray) -> np.ndarray | None:
    """``(S,)`` the tokens that `EncoderOutput.vectors` looks at; None: all."""
    return None if reads == "mean" else starts[:-1]


class Encoder(nn.Module):
    """An ordinary module that speaks `TokenBatch`.

    Args:
        config: What it was built from.
        embeddings: From ids, positions and segments ``(T,)`` to ``(T, D)``.
        scheme: What all layers share about positions: its ``prepare`` takes a `Context` and returns what attention
            finds there as ``prepared``. None where positions are only added to the tokens.
        stack: From ``(T, D)`` and the context to ``(T, D)``.
        pooler: From ``(S, D)`` to ``(S, D)``, or None.
    """

    def __init__(
        self,
        config: EncoderConfig,
        embeddings: nn.Module,
        scheme: nn.Module | None,
        stack: Stack,
        pooler: nn.Module | None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embeddings = embeddings
        self.scheme = scheme
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

    def forward(
        self,
        batch: TokenBatch,
        *,
        hidden: bool = False,
        attentions: bool = False,
        pooled: bool = True,
        places: np.ndarray | None = None,
    ) -> EncoderOutput:
        """Encodes a batch.

        Args:
            batch: Token arrays of NumPy or torch; they are moved to the encoder's device here.
            hidden: Whether every layer's output is wanted.
            attentions: Whether attention weights are wanted.
            pooled: Whether the pooled output is, where there is a pooler.
            places: ``(M,)`` ascending, the tokens whose last hidden states are wanted, which spares most of the last
                layer; first tokens among them where the pooled output is wanted. None: all; and so where `hidden` or
                `attentions` are wanted.

        Raises:
            BothwaysError: A sequence is empty or longer than the position table, or an id is outside its table.
        """
        batch = self.at_door(batch)
        context = self.context(batch, attentions=attentions)
        if places is not None and not hidden and not attentions:
            context = replace(context, places=sent(places, self.device))
        x_TD = self.embeddings(batch.token_ids, batch.positions, batch.segment_ids)
        layers: list[Tensor] | None = [x_TD] if hidden else None
        x_TD = self.stack(x_TD, context, layers)
        output = EncoderOutput(x_TD, batch.starts, None, layers, context.attentions, context.places)
        if not pooled or self.pooler is None:
            return output
        return replace(output, pooled=self.pooler(output.at(batch.starts[:-1])))

    def context(self, batch: TokenBatch, *, attentions: bool = False) -> Context:
        """What the layers share about a batch that has passed the door."""
        context = Context.of(batch, self.config.layers if attentions else None)
        return context if self.scheme is None else replace(context, prepared=self.scheme.prepare(context))  # type: ignore[operator]

    def at_door(self, batch: TokenBatch) -> TokenBatch:
        """The batch with its token arrays as tensors on this encoder's device, checked against its tables."""
        longest = batch.longest
        if batch.sight is not None:
            if why := sight_refusal(self.config):
                raise BothwaysError(why)
            longest = int(np.asarray(batch.positions).max(initial=-1)) + 1  # tokens may share places
        if self.config.longest is not None and longest > self.config.longest:
            raise BothwaysError(
                f"a sequence has {longest} tokens, but this model takes at most {self.config.longest}; "
                "cut it (max_length, truncation) or use a model with more positions"
            )
        if not batch.lengths.all():
            raise BothwaysError("a sequence has no tokens; leave it out of the batch")
        tables = self.config.embeddings
        _check_ids(batch.token_ids, tables.vocab_size, "token", "the tokenizer belongs to another model")
        if tables.segments > 1:  # a family without segments, or with a constant one, does not look at them
            _check_ids(batch.segment_ids, tables.segments, "segment", "this model knows fewer segments")
        device = self.device
        token_ids, segment_ids, positions = (
            sent(array, device, torch.int64) for array in (batch.token_ids, batch.segment_ids, batch.positions)
        )
        chosen = batch.global_tokens
        global_tokens = None if chosen is None else sent(chosen, device, torch.bool)
        sight = None if batch.sight is None else sent(batch.sight, device, torch.int64)
        return replace(
            batch,
            token_ids=token_ids,
            segment_ids=segment_ids,
            positions=positions,
            global_tokens=global_tokens,
            sight=sight,
        )


def _check_ids(ids: Array, count: int, what: str, why: str) -> None:
    """Refuses ids that a table does not have, which a GPU would only answer with a failed assertion.

    Ids that lie on a GPU already were drawn there by a model; it would have to be waited for.
    """
    if isinstance(ids, Tensor) and not ids.is_cpu:
        return
    if len(ids) and not (0 <= (lowest := int(ids.min())) <= (highest := int(ids.max())) < count):
        wrong = lowest if lowest < 0 else highest
        raise BothwaysError(f"{what} id {wrong} is outside the model's table of {count}; {why}")
