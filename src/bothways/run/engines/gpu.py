"""The engine of GPUs: the model's own modules, whose layers are recorded for short batches.

Attention over sequences of any length is one fused call there (`bothways.model.parts.varlen`).
"""

from __future__ import annotations

from dataclasses import replace

from bothways.run.engines.graphs import GraphedStack
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.pack import shared_copy
from bothways.run.engines.protocol import Manner
from bothways.run.engines.reference import ReferenceEngine

_BATCH_TOKENS = 32_768
"""Enough to fill a GPU, few enough for the memory of a small one."""


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
        parts = replace(parts, encoder=shared_copy(parts.encoder))
        parts.encoder.stack = GraphedStack.of(parts.encoder.stack)
        super().__init__(parts, precision, manner)
