"""Which layers the parts of an encoder serve, from the embeddings up: what rates and thawing go by."""

from __future__ import annotations

from torch import nn

from bothways.model.encoder import Encoder


def levels(encoder: Encoder) -> list[tuple[nn.Module, tuple[int, ...]]]:
    """The parts of an encoder of L layers, and the levels that each is at.

    Args:
        encoder: Any.

    Returns:
        Level 0 are the embeddings and what all layers share about positions, 1 to L the layers, L + 1 the pooler, which
        stands among the heads. A block that several layers share is at all their levels.
    """
    stack = encoder.stack
    top = len(stack.schedule)
    parts: list[tuple[nn.Module | None, tuple[int, ...]]] = [(encoder.embeddings, (0,)), (encoder.scheme, (0,))]
    for number, block in enumerate(stack.blocks):
        parts.append((block, tuple(layer + 1 for layer, used in enumerate(stack.schedule) if used == number)))
    parts += [(stack.convolution, (1,)), (stack.norm, (top,)), (encoder.pooler, (top + 1,))]
    return [(part, at) for part, at in parts if part is not None]
