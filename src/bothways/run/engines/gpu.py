"""The engine of GPUs: the model's own modules, whose layers are recorded for short batches.

Attention over sequences of any length is one fused call there (`bothways.model.parts.varlen`).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from bothways.run.engines.graphs import GraphedStack
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.pack import shared_copy
from bothways.run.engines.protocol import Manner
from bothways.run.engines.reference import ReferenceEngine

_BATCH_TOKENS = 32_768
"""Enough to fill a GPU, few enough for the memory of a small one."""
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class GpuEngine(ReferenceEngine):
    """Runs the modules that it is given on their GPU.

    Args:
        parts: The model's modules.
        precision: ``"float32"``, ``"bf16"`` or ``"fp16"``.
        manner: How it runs.
    """

    name = "gpu"
    batch_tokens = _BATCH_TOKENS
    keeps_rounded = False  # weights are rounded once, and a record must not look at what is given back

    def __init__(self, parts: Parts, precision: str, manner: Manner | None = None) -> None:
        parts = replace(parts, encoder=shared_copy(parts.encoder))
        parts.encoder.stack = GraphedStack.of(parts.encoder.stack)
        super().__init__(parts, precision, manner)
        if self._rounding.name in _HALVES:
            _round(parts.encoder, _HALVES[self._rounding.name])


def _round(encoder: nn.Module, half: torch.dtype) -> None:
    """Rounds what products read, once instead of for every batch; the model that it was copied from keeps its own."""
    for part in encoder.modules():
        if isinstance(part, nn.Linear):
            for name, value in list(part.named_parameters(recurse=False)):
                setattr(part, name, nn.Parameter(value.detach().to(half), requires_grad=False))
