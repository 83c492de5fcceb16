"""The stack: blocks, and in which order they are applied.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from bothways.batch import Rectangle


class Stack(nn.Module):
    """Blocks and a schedule of them: ``0, 1, 2, ...`` for BERT, ``0, 0, 0, ...`` where layers share one block.

    Args:
        blocks: From ``(T, D)``, the plan and a list for weights to ``(T, D)``.
        schedule: The number of the block that each layer applies.
    """

    def __init__(self, blocks: Iterable[nn.Module], schedule: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.schedule = tuple(schedule)

    def forward(
        self,
        x_TD: Tensor,
        plan: Sequence[Rectangle],
        hidden: list[Tensor] | None = None,
        weights: list[list[Tensor]] | None = None,
    ) -> Tensor:
        """Applies all layers.

        Args:
            x_TD: ``(T, D)`` hidden states.
            plan: The batch as rectangles.
            hidden: If a list is given, each layer's output ``(T, D)`` is appended to it.
            weights: If a list is given, each layer's list of attention weights is appended to it.

        Returns:
            ``(T, D)``, the last layer's output.
        """
        for block in self.schedule:
            layer_weights: list[Tensor] | None = None if weights is None else []
            x_TD = self.blocks[block](x_TD, plan, layer_weights)
            if hidden is not None:
                hidden.append(x_TD)
            if weights is not None and layer_weights is not None:
                weights.append(layer_weights)
        return x_TD
