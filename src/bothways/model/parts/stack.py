"""The stack: blocks, and in which order they are applied.

Shapes: T tokens, M of them that are wanted, H heads, K head width, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bothways.errors import BothwaysError
from bothways.model.parts.context import Context


class Stack(nn.Module):
    """Blocks and a schedule of them: ``0, 1, 2, ...`` for BERT, ``0, 0, 0, ...`` where layers share one block.

    Args:
        blocks: From ``(T, D)``, the context and the layer's number to ``(T, D)``.
        schedule: The number of the block that each layer applies.
        norm: Applied to the last layer's output, where blocks begin with a norm.
        convolution: Stands beside the first layer: from what went into it, what came out and the context to what the
            second layer gets.

    Attributes:
        recompute: Whether training keeps only what goes into each layer and computes the layer again for its gradient
            (Chen et al. 2016, "Training deep nets with sublinear memory cost"): about a third more time for memory that
            grows with the layers only by their inputs. The numbers are the same to the bit, dropout too.
    """

    def __init__(
        self,
        blocks: Iterable[nn.Module],
        schedule: Sequence[int],
        norm: nn.Module | None = None,
        convolution: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.schedule = tuple(schedule)
        self.norm = norm
        self.convolution = convolution
        self.recompute = False

    def forward(self, x_TD: Tensor, context: Context, hidden: list[Tensor] | None = None) -> Tensor:
        """Applies all layers.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share; it may want some tokens only of the last layer.
            hidden: If a list is given, each layer's output is appended to it.

        Returns:
            ``(T, D)``, the last layer's output, or ``(M, D)``.
        """
        whole, last = replace(context, places=None), len(self.schedule) - 1
        # Attention weights that are kept would be kept twice.
        again = self.recompute and self.training and torch.is_grad_enabled() and context.attentions is None
        apply = _recomputed if again else _once
        for layer, block in enumerate(self.schedule):
            beside = self.convolution if layer == 0 else None
            seen = context if layer == last and beside is None else whole
            before_TD, x_TD = x_TD, apply(self.blocks[block], x_TD, seen, layer)
            if beside is not None:
                x_TD = beside(before_TD, x_TD, whole)
                x_TD = context.wanted(x_TD) if layer == last else x_TD
            if self.norm is not None and layer == last:
                x_TD = self.norm(x_TD)
            if hidden is not None:
                hidden.append(x_TD)
        return x_TD

    def project(self, x_TD: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """The queries, keys and values ``(T, H, K)`` of a layer, computed again from what went into it.

        Args:
            x_TD: ``(T, D)`` the output of the layer before, or the embeddings for layer 0.
            context: What the layers share.
            layer: From 0.

        Raises:
            BothwaysError: The layer's attention has no queries, keys and values.
        """
        block = self.blocks[self.schedule[layer]]
        if not hasattr(block.attention, "project"):
            raise BothwaysError(
                f"layer {layer} mixes tokens without queries, keys and values, which are asked for here"
            )
        return block.attention.project(block.before_attention(x_TD), context, layer)  # type: ignore[operator]


def _once(block: nn.Module, x_TD: Tensor, context: Context, layer: int) -> Tensor:
    return block(x_TD, context, layer)


def _recomputed(block: nn.Module, x_TD: Tensor, context: Context, layer: int) -> Tensor:
    return checkpoint(block, x_TD, context, layer, use_reentrant=False)


def recompute_layers(model: nn.Module, on: bool) -> None:
    """Says of every stack in a model whether training computes its layers twice to hold less in memory."""
    for part in model.modules():
        if isinstance(part, Stack):
            part.recompute = on
