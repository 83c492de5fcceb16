"""What an engine is: something that takes token batches and gives arrays, and says what it is.

Shapes: T tokens of the packed batch, S sequences, D width, C classes, V vocabulary, M places; P width of pooled
vectors, E of those behind a dense layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from bothways.batch import TokenBatch

HIDDEN, VECTOR, DENSE = "hidden", "vector", "dense"
SPARSE = "sparse"
_EACH = 3
"""Batches of the largest kind that each thread should have, so that none waits long for the others at the end."""


@dataclass(frozen=True)
class Output:
    """What is wanted of a batch.

    Attributes:
        kind: ``"hidden"``: the hidden state of each token ``(T, D)``; ``"vector"``: one vector a sequence ``(S, P)``,
            not normalised; ``"sparse"``: what the masked-token head makes of all tokens of a sequence ``(S, V)``; or
            the kind of a head, whose numbers are given as they come out of it: ``"classify"`` and
            ``"nsp"`` ``(S, C)``, ``"choose"`` ``(S,)``, ``"tag"`` ``(T, C)``, ``"answer"`` ``(T, 2)``, ``"rtd"``
            ``(T,)``, ``"mlm"`` ``(M, V)``, ``"late"`` ``(T, P)``.
        pooling: How the tokens of a sequence become its vector, dense or sparse.
        dense: Whether the model's dense layer makes ``(S, E)`` of it.
        token: The id of the token at whose M places ``"mlm"`` is asked, in the order of the batch.
        layers: Of ``"hidden"``: the N layers that are wanted, side by side ``(T, N * D)``, 0 for what goes into the
            first of them; none for the last alone.
    """

    kind: str
    pooling: str = ""
    dense: bool = False
    token: int = -1
    layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Manner:
    """How an engine runs, whatever it computes.

    Attributes:
        deterministic: Whether each text is computed alone, by one thread, so that its numbers are the same to the bit
            whatever else is asked, in whatever order and by how many threads.
        pinned: Whether each thread keeps to a processor core of its own.
    """

    deterministic: bool = False
    pinned: bool = False


class Engine(Protocol):
    """Runs a model.

    Attributes:
        name: As it is asked for.
        precision: What its matrix products are computed in.
        batch_tokens: How many tokens a batch should have. Engines whose `threads` each take a batch may have
            `most_tokens` too: how many it should have where every thread gets several such batches.
    """

    name: str
    precision: str
    batch_tokens: int

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """Runs batches; each is yielded with what was wanted of it, float32, not necessarily in the order they came."""
        ...

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """What a head knows besides its numbers for a text: a CRF's scores of neighbouring tags."""
        ...

    def describe(self) -> dict[str, Any]:
        """What it is, as plain data: its name, precision, and what it found of the machine."""
        ...


def budget(engine: Engine, tokens: int) -> int:
    """How many tokens a batch should have of a job of so many."""
    most, threads = getattr(engine, "most_tokens", 0), getattr(engine, "threads", 1)
    return max(engine.batch_tokens, min(most, tokens // (_EACH * threads)))
