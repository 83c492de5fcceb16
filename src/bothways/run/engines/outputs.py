"""What torch makes of a batch for each output that an engine can be asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.batch import TokenBatch
from bothways.model.config import HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.heads.enhanced_mask_decoder import states_at
from bothways.model.heads.sentence import places_pooled, sentence_vectors
from bothways.model.heads.sparse import sparse_vectors
from bothways.run.engines.protocol import DENSE, HIDDEN, SPARSE, VECTOR, Output

_WHOLE = 1 << 14
"""Bytes of a weight up to which all of them are hashed."""


@dataclass(frozen=True)
class Parts:
    """The modules of a model.

    Attributes:
        encoder: The encoder.
        heads: Heads by kind.
        head_configs: Their configurations by kind.
        plain: The encoder that `encoder` was made of, where that has other layers: the enhanced mask decoder asks one
            of them for what only the plain one gives.
    """

    encoder: Encoder
    heads: Mapping[str, nn.Module]
    head_configs: Mapping[str, HeadConfig]
    plain: Encoder | None = None

    def eval(self) -> None:
        """Switches dropout off."""
        for part in (self.encoder, *self.heads.values()):
            part.eval()

    def fingerprint(self) -> str:
        """A hash of all weights: of small ones themselves, of large ones what their bits sum up to each way."""
        found = hashlib.blake2b(digest_size=16)
        for module in (self.encoder, *self.heads.values()):
            for name, value in sorted(module.named_parameters()):
                found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
                for part in _summed(value):
                    found.update(part.tobytes())
        return found.hexdigest()


def _summed(value: Tensor) -> list[np.ndarray]:
    """Sums of a weight's bits by row and by column, which are read as fast as memory gives them; a small one whole."""
    flat = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    rows, row = (len(value), len(flat) // len(value)) if value.ndim and len(value) else (1, len(flat))
    if len(flat) <= _WHOLE or row % 8:
        return [flat]
    words = flat.view(np.int64).reshape(rows, row // 8)
    return [np.add.reduce(words, axis=0), np.add.reduce(words, axis=1)]


def compute(parts: Parts, batch: TokenBatch, output: Output) -> Tensor:
    """Encodes a batch and makes of it what is wanted; shapes as `Output` says."""
    if output.kind == "mlm":
        return _words(parts, batch, output.token)
    if output.layers:
        states = parts.encoder(batch, hidden=True, pooled=False).hidden
        return torch.cat([states[layer] for layer in output.layers], dim=1)
    encoded = parts.encoder(batch, pooled=output.kind not in (HIDDEN, VECTOR), places=_places(parts, batch, output))
    if output.kind == HIDDEN:
        return encoded.sequence
    if output.kind == VECTOR:
        return sentence_vectors(encoded, output.pooling, parts.heads[DENSE] if output.dense else None)
    if output.kind == SPARSE:
        return sparse_vectors(
            parts.heads["mlm"],  # type: ignore[arg-type]
            encoded.sequence,
            parts.encoder.token_table,
            batch.starts,
            output.pooling,
        )
    head = parts.heads[output.kind]
    found: Tensor = head.scores(encoded.sequence) if output.kind == "tag" else head(encoded)  # type: ignore[operator]
    return found


def _places(parts: Parts, batch: TokenBatch, output: Output) -> np.ndarray | None:
    """The tokens whose hidden states are looked at; None: all."""
    if output.kind == VECTOR:
        return places_pooled(output.pooling, batch.starts)
    head: Any = parts.heads.get(output.kind)
    return head.places(batch.starts) if hasattr(head, "places") else None


def _words(parts: Parts, batch: TokenBatch, token: int) -> Tensor:
    decoder = parts.head_configs["mlm"].decoder
    places = (torch.as_tensor(batch.token_ids) == token).nonzero().squeeze(1)
    encoded = parts.encoder(batch, hidden=decoder == "enhanced", pooled=False, places=places.numpy())
    if encoded.hidden is not None:
        encoded = replace(encoded, hidden=[state.float() for state in encoded.hidden[-2:]])
    states_MD = states_at(decoder, parts.plain or parts.encoder, encoded, batch, places)
    found: Tensor = parts.heads["mlm"](states_MD, parts.encoder.token_table)
    return found
