"""What the objectives on a teacher share.

Shapes: T tokens, S sequences, H heads, K head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Forward, Key, Targets
from bothways.model.encoder import Encoder

KEYS, LENGTHS = "teacher.keys", "teacher.lengths"


class Compared:
    """The part of an objective that only looks: it leaves the batch as it is and makes no guesses.

    Its targets are ``teacher.keys`` ``(S, 2)``, by which a teacher's outputs are kept, and the sequences'
    ``teacher.lengths`` ``(S,)``.
    """

    heads: tuple[str, ...] = ()
    hidden = False
    guesses = False

    def prepare(
        self, batch: TokenBatch, keys: list[Key], examples: list[Sequence[Any]], progress: float
    ) -> tuple[TokenBatch, Targets]:
        """Says which sequences they are."""
        return batch, {KEYS: np.array(keys, dtype=np.int64).reshape(-1, 2), LENGTHS: batch.lengths}

    def count(self, targets: Targets) -> int:
        """T, the number of tokens."""
        return int(targets[LENGTHS].sum())


def teacher_of(forward: Forward) -> Forward:
    """The teacher's pass over the same batch."""
    assert forward.teacher is not None  # an objective that compares is not made without one
    return forward.teacher


def states_of(forward: Forward) -> list[Tensor]:
    """The embeddings and every layer's output ``(T, D)``."""
    assert forward.output.hidden is not None  # the objective has asked for them
    return forward.output.hidden


class Projections:
    """The queries, keys and values of an encoder's layers in one pass.

    Args:
        forward: The pass, with hidden states.
    """

    def __init__(self, forward: Forward) -> None:
        self._encoder: Encoder = forward.encoder
        self._states = states_of(forward)
        self._context = forward.encoder.context(forward.encoder.at_door(forward.batch))

    def of(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Those of a layer, from 0: each ``(T, H, K)``."""
        return self._encoder.stack.project(self._states[layer], self._context, layer)
