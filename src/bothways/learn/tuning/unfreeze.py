"""Gradual unfreezing: layers begin to learn one by one, from the last to the first.

Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", section 3.3. At the beginning the
heads learn alone.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from bothways.learn.levels import levels
from bothways.model.encoder import Encoder


def thaw(encoder: Encoder, share: float, alone: bool = False) -> Callable[[float], None]:
    """Makes what says before each step which layers learn, from the share of the run alone.

    Args:
        encoder: Of L layers. What does not learn now never will.
        share: Of the run, after which all of it learns: the last layer after a part of L + 1 of that share, the layer
            below after two, the embeddings after all of it. A block that several layers share begins with the last.
        alone: Whether nothing but the encoder learns, so that its last layer has to from the beginning.

    Returns:
        To be called with the share of the run's steps taken.
    """
    top = len(encoder.stack.schedule) + (not alone)
    begins: dict[nn.Parameter, float] = {}
    for part, at in levels(encoder):
        begin = share * (top - max(at)) / top
        begins |= {parameter: begin for parameter in part.parameters() if parameter.requires_grad}

    def before_step(progress: float) -> None:
        for parameter, begin in begins.items():
            parameter.requires_grad_(progress >= begin)

    return before_step
