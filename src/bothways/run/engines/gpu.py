"""The engine of GPUs: the model's own modules, with attention over sequences of any length in one fused call.

Where this torch has no such call, or a family adds to the scores of attention, rectangles of equal lengths are attended
to as everywhere else. The layers of short batches are recorded (`bothways.run.engines.graphs`).

Shapes: T tokens, S sequences, H heads, K head width, D = H · K.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.model.parts.attention import Attention
from bothways.model.parts.context import Context
from bothways.run.engines.graphs import GraphedStack
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.pack import shared_copy
from bothways.run.engines.protocol import Manner, Output
from bothways.run.engines.reference import ReferenceEngine

_BATCH_TOKENS = 32_768
"""Enough to fill a GPU, few enough for the memory of a small one."""
_HALVES = (torch.bfloat16, torch.float16)


@dataclass
class _Edges:
    """Where the sequences of the present batch begin: ``(S + 1,)`` int32 on the device, and the longest of them."""

    starts: Tensor | None = None
    longest: int = 0


class VarlenAttention(Attention):
    """An `Attention` whose sequences are mixed by one call, whatever their lengths."""

    edges: _Edges
    kernel: Callable[..., Any]

    @classmethod
    def of(cls, attention: Attention, edges: _Edges, kernel: Callable[..., Any]) -> VarlenAttention:
        """The same layers.

        Args:
            attention: Of the kind that adds nothing to its scores.
            edges: Filled before each batch.
            kernel: As `torch.nn.attention.varlen.varlen_attn`.
        """
        made = copy.copy(attention)
        made.__class__ = cls
        assert isinstance(made, cls)
        made.edges, made.kernel = edges, kernel
        return made

    def mix(self, q_THK: Tensor, k_THK: Tensor, v_THK: Tensor, context: Context, layer: int) -> Tensor:
        """As `Attention.mix` says; the kernel takes half precision only."""
        edges = self.edges
        if edges.starts is None or q_THK.dtype not in _HALVES or context.attentions is not None:
            return super().mix(q_THK, k_THK, v_THK, context, layer)
        starts, longest = edges.starts, edges.longest
        mixed: Tensor = self.kernel(q_THK, k_THK, v_THK, starts, starts, longest, longest, scale=self.scale)
        return mixed.flatten(1)


def varlen_kernel() -> Callable[..., Any] | None:
    """Torch's attention over sequences of any length; None where this torch has none."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


class GpuEngine(ReferenceEngine):
    """Runs the modules that it is given on their GPU.

    Args:
        parts: The model's modules.
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        manner: How it runs.
    """

    name = "gpu"
    batch_tokens = _BATCH_TOKENS

    def __init__(self, parts: Parts, precision: str, manner: Manner | None = None) -> None:
        self._edges, kernel = _Edges(), varlen_kernel()
        parts = replace(parts, encoder=shared_copy(parts.encoder))
        parts.encoder.stack = GraphedStack.of(parts.encoder.stack, lambda: self._edges.starts)
        if kernel is not None and precision != "float32":
            for block in parts.encoder.stack.blocks:
                if type(getattr(block, "attention", None)) is Attention:
                    block.attention = VarlenAttention.of(block.attention, self._edges, kernel)  # type: ignore[arg-type]
        super().__init__(parts, precision, manner)

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says."""
        return super().run(map(self._entered, batches), output)

    def _entered(self, batch: TokenBatch) -> TokenBatch:
        device = self._parts.encoder.device
        self._edges.starts = torch.from_numpy(batch.starts).to(device, torch.int32)
        self._edges.longest = batch.longest
        return batch
