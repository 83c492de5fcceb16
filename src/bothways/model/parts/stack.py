"""The stack: blocks, and in which order they are applied.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from bothways.model.parts.context import Context


class Stack(nn.Module):
    """Blocks and a schedule of them: ``0, 1, 2, ...`` for BERT, ``0, 0, 0, ...`` where layers share one block.

    Args:
        blocks: From ``(T, D)``, the context and the layer's number to ``(T, D)``.
        schedule: The number of the block that each layer applies.
        norm: Applied to the last layer's output, where blocks begin with a norm.
        convolution: Stands beside the first layer: from what went into it, what came out and the context to what the
            second layer gets.
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

    def forward(self, x_TD: Tensor, context: Context, hidden: list[Tensor] | None = None) -> Tensor:
        """Applies all layers.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share.
            hidden: If a list is given, each layer's output ``(T, D)`` is appended to it.

        Returns:
            ``(T, D)``, the last layer's output.
        """
        for layer, block in enumerate(self.schedule):
            before_TD, x_TD = x_TD, self.blocks[block](x_TD, context, layer)
            if self.convolution is not None and layer == 0:
                x_TD = self.convolution(before_TD, x_TD, context)
            if self.norm is not None and layer == len(self.schedule) - 1:
                x_TD = self.norm(x_TD)
            if hidden is not None:
                hidden.append(x_TD)
        return x_TD
