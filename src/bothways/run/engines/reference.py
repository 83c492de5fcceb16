"""The reference engine: the model's own modules, in plain torch, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from bothways.batch import TokenBatch
from bothways.run.engines.cores import CORES
from bothways.run.engines.outputs import Parts, compute
from bothways.run.engines.protocol import Manner, Output
from bothways.run.precision import resolve_precision

_BATCH_TOKENS = 4096
"""Enough to keep the processor busy, few enough to stay near its caches."""


class ReferenceEngine:
    """Runs the modules that it is given, as they are at that moment.

    Args:
        parts: The model's modules.
        precision: ``"float32"``, ``"bf16"``, or ``"fp16"`` on a GPU.
        manner: How it runs.
    """

    name = "reference"
    batch_tokens = _BATCH_TOKENS
    keeps_rounded = True
    """Whether a weight that was rounded for a product is kept until the batch is done."""

    def __init__(self, parts: Parts, precision: str, manner: Manner | None = None) -> None:
        self.precision, self.manner = precision, manner or Manner()
        if self.manner.deterministic:
            self.batch_tokens = 1
        self._parts = parts
        self._rounding = resolve_precision(precision, parts.encoder.device)

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says; one batch after the other."""
        self._parts.eval()
        for batch in batches:
            with self._cores(), torch.inference_mode(), self._rounding.autocast(keeps=self.keeps_rounded):
                found = compute(self._parts, batch, output)
            yield batch, found.float().cpu().numpy()

    @contextmanager
    def _cores(self) -> Iterator[None]:
        """The threads that compute while the block runs, on cores that no other engine of this process has then."""
        before = torch.get_num_threads()
        count = 1 if self.manner.deterministic else before
        if self._parts.encoder.device.type != "cpu":
            count = 0
        with CORES.held(count, before):
            torch.set_num_threads(count or before)
            try:
                yield
            finally:
                torch.set_num_threads(before)

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """As `Engine.tables` says."""
        values = self._parts.heads[kind].state_dict() | dict(self._parts.heads[kind].named_buffers())
        return {name: value.detach().cpu().numpy() for name, value in values.items()}

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        device = self._parts.encoder.device
        said = {"engine": self.name, "precision": self.precision, "device": str(device)}
        return said | {"deterministic": self.manner.deterministic}
