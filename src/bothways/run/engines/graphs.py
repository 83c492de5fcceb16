"""A stack whose layers a GPU begins as one: CUDA graphs, for short batches of the same shape.

Beginning a kernel takes a GPU longer than a short text takes in it, and a layer begins a dozen. So when sequences of
the same lengths come again, what the layers do is recorded, and repeated on the next ones of these lengths. Where that
cannot be recorded, the layers run as they are.

Shapes: T tokens, D width.
"""

from __future__ import annotations

import copy
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from bothways.model.parts.context import Context
from bothways.model.parts.sparse import SparseAttention
from bothways.model.parts.stack import Stack

_MOST_TOKENS, _MOST_KEPT = 2048, 32
"""Of a batch whose layers take less than their beginning; and records, each of which has memory of its own."""
_MOST_COUNTED = 1024
"""Shapes of which it is remembered how often they came."""
_AGAIN, _WARM = 3, 2
"""The time that a shape is recorded; and how often the layers run before, as some set themselves up."""
Run = Callable[[Tensor], Tensor]


class GraphedStack(Stack):
    """A `Stack` that repeats what it has recorded.

    Records stay as long as the engine: where there are more shapes than may be kept, recording each when it comes again
    would take longer than running it.
    """

    seen: OrderedDict[bytes, int]
    records: dict[bytes, Run | None]
    longest: float

    @classmethod
    def of(cls, stack: Stack) -> GraphedStack:
        """The same layers."""
        made = copy.copy(stack)
        made.__class__ = cls
        assert isinstance(made, cls)
        made.seen, made.records, made.longest = OrderedDict(), {}, _longest(stack)
        return made

    def forward(self, x_TD: Tensor, context: Context, hidden: list[Tensor] | None = None) -> Tensor:
        """As `Stack.forward` says."""
        asked = hidden is not None or context.attentions is not None or context.global_tokens is not None
        large = len(x_TD) > _MOST_TOKENS or max((piece.length for piece in context.plan), default=0) > self.longest
        if asked or large or self.training:
            return super().forward(x_TD, context, hidden)
        return context.wanted(self._repeated(x_TD, replace(context, places=None)))

    def _repeated(self, x_TD: Tensor, context: Context) -> Tensor:
        key = context.starts.tobytes()
        if key not in self.records and len(self.records) < _MOST_KEPT and self._came_again(key):
            self.records[key] = self._recorded(x_TD, context)
        run = self.records.get(key)
        return super().forward(x_TD, context) if run is None else run(x_TD)

    def _came_again(self, key: bytes) -> bool:
        """Whether this is the time that a shape is recorded."""
        count = self.seen.pop(key, 0) + 1
        if count == _AGAIN:
            return True
        self.seen[key] = count
        if len(self.seen) > _MOST_COUNTED:
            self.seen.popitem(last=False)
        return False

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


def _longest(stack: Stack) -> float:
    """Tokens of the longest sequence of which the layers can be recorded.

    In longer ones they take numbers from the host, of which a record would only know where they lay.
    """
    if stack.convolution is not None:
        return 0
    return min((part.longest_full for part in stack.modules() if isinstance(part, SparseAttention)), default=math.inf)


_ONE_AT_A_TIME = threading.Lock()
"""Held while something is recorded: a process records one graph at a time, however many models it has."""


def recorded(run: Run, x_TD: Tensor) -> Run:
    """What a function does on a GPU, to be repeated on other values of the same shape.

    Other threads go on computing meanwhile.

    Args:
        run: What is to be recorded.
        x_TD: What it is recorded on.

    Raises:
        RuntimeError: It does what cannot be recorded.
    """
    # streams belong to the device that is current when they are made, which need not be that of the values
    with _ONE_AT_A_TIME, torch.cuda.device(x_TD.device):
        held, graph = x_TD.clone(), torch.cuda.CUDAGraph()
        usual, aside = torch.cuda.current_stream(), torch.cuda.Stream()
        aside.wait_stream(usual)
        with torch.cuda.stream(aside):  # left again, too, where recording fails and its own block does not end
            for _ in range(_WARM):
                run(held)
            with torch.cuda.graph(graph, stream=aside, capture_error_mode="thread_local"):
                out = run(held)
        usual.wait_stream(aside)

    def again(x_TD: Tensor) -> Tensor:
        held.copy_(x_TD)
        graph.replay()
        return out.clone()

    return again
