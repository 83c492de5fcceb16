"""The packed engine: packed modules, and a batch a core."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from itertools import chain, islice
from typing import Any

import numpy as np
import torch

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.model.kernels.compiled import describe_kernels, kernels
from bothways.run.engines.cores import CORES
from bothways.run.engines.outputs import Parts, compute
from bothways.run.engines.packed.int8 import Int8Linear, Rounded
from bothways.run.engines.packed.int16 import Int16Linear, can_int16
from bothways.run.engines.packed.linear import PackedLinear, can_pack
from bothways.run.engines.packed.pack import keeps_halves, pack, passed
from bothways.run.engines.packed.padding import filled, fillers
from bothways.run.engines.protocol import Manner, Output
from bothways.run.machine import cache_share
from bothways.run.precision import native_bf16

_BATCH_BYTES = 2048
"""Of one channel of a batch that is large enough for a thread alone."""
_MOST_BYTES = 4 * _BATCH_BYTES
"""Beyond which more tokens make nothing faster."""
_CACHE = 0.25
"""Of the last cache that a core has: what the hidden states of a large batch may fill."""
_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "int16": torch.int16}


class PackedEngine:
    """Runs packed copies of the modules that it is given.

    Several batches are run at once, each by one thread alone: then no thread waits for another after every product. A
    batch that comes alone is shared by all threads.

    Args:
        parts: The model's modules, on a processor.
        precision: ``"float32"``, ``"bf16"``, ``"int16"``, or ``"int8"`` with `rounded`.
        rounded: The weights of the layers that multiply in int8 (`bothways.run.engines.packed.pack.layers`); the others
            do in `fast_precision`, and where that is not bf16, float16 passes between layers if it can.
        threads: How many batches are run at once; as many as torch may use when not given.
        manner: How it runs.
        kept: In bf16 and int16: layers that multiply in float32 (`bothways.run.engines.packed.pack.sizes`); float32
            then passes between all of them.

    Raises:
        BothwaysError: int16 is asked for, and there is no kernel for it.
    """

    name = "packed"

    def __init__(
        self,
        parts: Parts,
        precision: str,
        threads: int | None = None,
        rounded: Mapping[str, Rounded] | None = None,
        manner: Manner | None = None,
        kept: Collection[str] = (),
    ) -> None:
        if precision == "int16" and not can_int16():
            raise BothwaysError(
                f"int16 needs a processor with AVX-512 and VNNI, and a C compiler ({describe_kernels()}); use float32"
            )
        self.precision, self.manner = precision, manner or Manner()
        self._rounded, self._kept = sorted(rounded or ()), sorted(kept)
        self.threads = threads or torch.get_num_threads()
        self._dtype = _DTYPES[fast_precision() if precision == "int8" else precision]
        narrow = rounded and self._dtype != torch.bfloat16 and keeps_halves(parts.encoder)
        between = torch.float16 if narrow else torch.float32 if kept else passed(self._dtype)
        self._rounds = between == torch.bfloat16
        in_cache = int(_CACHE * cache_share() / parts.encoder.config.width)
        most = min(max(in_cache, _BATCH_BYTES), _MOST_BYTES)
        sizes = (_BATCH_BYTES // between.itemsize, most // between.itemsize)
        self.batch_tokens, self.most_tokens = (1, 1) if self.manner.deterministic else sizes
        self._parts = pack(parts, self._dtype, rounded, between, kept)
        self._parts.eval()
        self._any_shape = all(
            layer.any_shape
            for layer in self._parts.encoder.modules()
            if isinstance(layer, PackedLinear | Int8Linear | Int16Linear)
        )

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says."""
        waiting = iter(batches)
        first = list(islice(waiting, 2))
        alone = len(first) < 2 or self.threads == 1
        if alone and not self.manner.deterministic:
            for batch in chain(first, waiting):
                with CORES.held(self.threads, self.threads):
                    found = self._answer(batch, output)
                yield batch, found
            return
        yield from self._at_once(chain(first, waiting), output)

    def _at_once(self, batches: Iterator[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """A batch a thread, and a few ready for those that finish first."""
        running = deque[tuple[TokenBatch, Future[np.ndarray]]]()
        with _workers(self.threads) as pool:
            for batch in batches:
                running.append((batch, pool.submit(self._answer_alone, batch, output)))
                if len(running) > 2 * self.threads:
                    done, found = running.popleft()
                    yield done, found.result()
            while running:
                done, found = running.popleft()
                yield done, found.result()

    def _answer_alone(self, batch: TokenBatch, output: Output) -> np.ndarray:
        """By one thread, on a core of its own."""
        with CORES.held(1, self.threads), CORES.pinned(self.manner.pinned):
            return self._answer(batch, output)

    def _answer(self, batch: TokenBatch, output: Output) -> np.ndarray:
        count = 0 if self._any_shape else fillers(batch.tokens)
        whole = filled(batch, count, 1 if output.token == 0 else 0)
        rounding = torch.autocast("cpu", torch.bfloat16) if self._rounds else nullcontext()
        with torch.inference_mode(), rounding:
            found = compute(self._parts, whole, output)
        # each filler is a token, and a sequence, of its own; no place of a masked token
        return found[0 if output.kind == "mlm" else count :].float().numpy()

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """As `Engine.tables` says."""
        return {name: value.detach().numpy() for name, value in self._parts.heads[kind].state_dict().items()}

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": "cpu",
            "threads": self.threads,
            "packed": self._dtype == torch.int16 or can_pack(self._dtype),
            "kernels": kernels() is not None,
            "int8": self._rounded,
            "kept": self._kept,
            "deterministic": self.manner.deterministic,
            "pinned": self.manner.pinned,
        }


def fast_precision() -> str:
    """The fastest precision of this processor that needs no rounded weights."""
    return "bf16" if native_bf16("cpu")[0] else "int16" if can_int16() else "float32"


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that compute alone, each with one core; what is not begun when the block is left, is not done.

    They end with the block: while they exist, OpenMP lets threads that share a batch sleep sooner, and a short text
    takes twice as long.
    """
    said: list[int] = []

    def begin() -> None:
        said.append(torch.get_num_threads())
        torch.set_num_threads(1)

    pool = ThreadPoolExecutor(count, "bothways-engine", begin)
    try:
        with CORES.starting:
            ready = threading.Barrier(count + 1)
            own = torch.get_num_threads()
            try:
                for _ in range(count):
                    pool.submit(ready.wait)
                ready.wait()
            except BaseException:  # those that were begun do not wait for one that cannot be
                ready.abort()
                pool.shutdown(cancel_futures=True)
                raise
            finally:
                # what a worker says of itself, torch takes for all new threads: also for this one, if it began
                # meanwhile; the first worker still found what had been said before
                torch.set_num_threads(own if own > 1 or not said else said[0])
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
