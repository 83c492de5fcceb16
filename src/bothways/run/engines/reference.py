"""The reference engine: the model's own modules, in plain torch, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch

from bothways.batch import TokenBatch
from bothways.run.engines.outputs import Parts, compute
from bothways.run.engines.protocol import Output
from bothways.run.precision import resolve_precision

_BATCH_TOKENS = 4096
"""Enough to keep the processor busy, few enough to stay near its caches."""


class ReferenceEngine:
    """Runs the modules that it is given, as they are at that moment.

    Args:
        parts: The model's modules.
        precision: ``"float32"`` or ``"bf16"``.
    """

    name = "reference"
    batch_tokens = _BATCH_TOKENS

    def __init__(self, parts: Parts, precision: str) -> None:
        self.precision = precision
        self._parts = parts
        self._rounding = resolve_precision(precision, parts.encoder.device)

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says; one batch after the other."""
        self._parts.eval()
        for batch in batches:
            with torch.inference_mode(), self._rounding.autocast():
                found = compute(self._parts, batch, output)
            yield batch, found.float().cpu().numpy()

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """As `Engine.tables` says."""
        values = self._parts.heads[kind].state_dict() | dict(self._parts.heads[kind].named_buffers())
        return {name: value.detach().cpu().numpy() for name, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        device = self._parts.encoder.device
        return {"engine": self.name, "precision": self.precision, "device": str(device)}
