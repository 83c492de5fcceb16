"""What the layers of one forward pass share.

Shapes: T tokens, M of them that are wanted, H heads, L a sequence's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from bothways.batch import Rectangle, TokenBatch
from bothways.model.parts.varlen import plan_of


@dataclass(frozen=True)
class Context:
    """The batch as attention sees it.

    Attributes:
        plan: The batch as rectangles of neighbouring sequences of equal length.
        starts: ``(S + 1,)`` where each sequence begins, on the host.
        positions: ``(T,)`` the place of each token in its sequence.
        global_tokens: ``(T,)`` booleans, which tokens see and are seen by all, or None.
        sight: ``(3, T)`` integers, when each token is seen (`bothways.model.parts.sight`), or None: always.
        places: ``(M,)`` the tokens that are wanted after attention, in the last layer; None for all.
        prepared: What the encoder's position scheme computed once for all layers; None without one.
        attentions: For each layer the list that its attention weights ``(H, L, L)`` of each sequence are appended to;
            None if nobody asked.
    """

    plan: Sequence[Rectangle]
    starts: np.ndarray
    positions: Tensor
    global_tokens: Tensor | None = None
    sight: Tensor | None = None
    places: Tensor | None = None
    prepared: Any = None
    attentions: list[list[Tensor]] | None = None

    @classmethod
    def of(cls, batch: TokenBatch, layers: int | None = None) -> Context:
        """What a batch of tensors is to attention.

        Args:
            batch: Past the encoder's door.
            layers: If given, attention weights are kept of so many layers.
        """
        kept: list[list[Tensor]] | None = None if layers is None else [[] for _ in range(layers)]
        chosen = batch.global_tokens, batch.sight
        return cls(plan_of(batch), batch.starts, batch.positions, *chosen, attentions=kept)

    def wanted(self, x_TD: Tensor) -> Tensor:
        """``(M, D)`` of ``(T, D)``, or all of it where all is wanted.

        Tokens meet in attention alone: what follows is done to each by itself, and not to those that nobody asks for.
        """
        return x_TD if self.places is None else x_TD.index_select(0, self.places)

    def weights(self, layer: int) -> list[Tensor] | None:
        """The list that a layer's attention weights go to, or None."""
        return None if self.attentions is None else self.attentions[layer]
