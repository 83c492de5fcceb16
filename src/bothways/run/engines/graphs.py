"""A stack whose layers a GPU begins as one: CUDA graphs, for short batches of the same shape.

Beginning a kernel takes a GPU longer than a short text takes in it, and a layer begins a dozen. So when sequences of
the same lengths come again, what the layers do is recorded, and repeated on the next ones of these lengths. Where that
cannot be recorded, the layers run as they are.

Shapes: T tokens, D width.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bothways.model.parts.context import Context
from bothways.model.parts.stack import Stack

_MOST_TOKENS, _MOST_KEPT = 2048, 32
"""Of a batch whose layers take less than their beginning; and records, each of which has memory of its own."""
_AGAIN, _WARM = 3, 2
"""The time that a shape is recorded; and how often the layers run before, as some set themselves up."""
Run = Callable[[Tensor], Tensor]


class GraphedStack(Stack):
    """A `Stack` that repeats what it has recorded."""

    seen: OrderedDict[bytes, int | Run | None]

    @classmethod
    def of(cls, stack: Stack) -> GraphedStack:
        """The same layers."""
        made = copy.copy(stack)
        made.__class__ = cls
        assert isinstance(made, cls)
        made.seen = OrderedDict()
        return made

    def forward(self, x_TD: Tensor, context: Context, hidden: list[Tensor] | None = None) -> Tensor:
        """As `Stack.forward` says."""
        asked = hidden is not None or context.attentions is not None or context.global_tokens is not None
        if asked or self.training or len(x_TD) > _MOST_TOKENS:
            return super().forward(x_TD, context, hidden)
        return context.wanted(self._repeated(x_TD, replace(context, places=None)))

    def _repeated(self, x_TD: Tensor, context: Context) -> Tensor:
        key = context.starts.tobytes()
        known = self.seen.pop(key, 0)
        if isinstance(known, int):
            known = known + 1 if known + 1 < _AGAIN else self._recorded(x_TD, context)
        self.seen[key] = known
        if len(self.seen) > _MOST_KEPT:
            self.seen.popitem(last=False)
        return known(x_TD) if callable(known) else super().forward(x_TD, context)

    def _recorded(self, x_TD: Tensor, context: Context) -> Run | None:
        """What is done to hidden states of this shape; None where it cannot be recorded."""
        run = super().forward
        try:
            again = recorded(lambda x: run(x, context), x_TD)
        except RuntimeError:  # a layer asks the host something in between
            return None

        def with_all_it_reads(x_TD: Tensor, kept: Context = context) -> Tensor:
            return again(x_TD)

        return with_all_it_reads


def recorded(run: Run, x_TD: Tensor) -> Run:
    """What a function does on a GPU, to be repeated on other values of the same shape.

    Args:
        run: What is to be recorded.
        x_TD: What it is recorded on.

    Raises:
        RuntimeError: It does what cannot be recorded.
    """
    held = x_TD.clone()
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(_WARM):
            run(held)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = run(held)

    def again(x_TD: Tensor) -> Tensor:
        held.copy_(x_TD)
        graph.replay()
        return out.clone()

    return again
