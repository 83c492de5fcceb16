"""What the engines of exported graphs share: packed batches as padded rectangles, and their answers packed again.

A graph takes one rectangle: N texts, each filled up to the longest of them. A batch is sorted by length, so it is cut
where the padding would cost more than another call.

Shapes: T tokens of the packed batch, S sequences; in a rectangle N sequences of L tokens.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.run.engines.cores import CORES
from bothways.run.engines.protocol import DENSE, HIDDEN, SPARSE, VECTOR, Manner, Output
from bothways.run.forked import renewed
from bothways.run.machine import wanted_threads

_BATCH_TOKENS = 4096
_CALL = 64
"""Padding tokens that take about as long as one more call."""
BY_TOKEN = (HIDDEN, "tag", "answer", "rtd", "late")
TABLES_FILE = "tables.safetensors"


class RectangleEngine(ABC):
    """An engine whose graph takes a rectangle of token ids.

    Args:
        folder: The exported model's.
        pad_id: What fills up short texts.
        precision: What its products are computed in.
        graph: A hash of the graph, which tells one export from another.
        manner: How it runs.

    Attributes:
        inputs: The names of what the graph takes.
        threads: How many compute.
    """

    name: str
    batch_tokens = _BATCH_TOKENS
    inputs: tuple[str, ...]

    def __init__(
        self, folder: Path, pad_id: int, precision: str, graph: str = "", manner: Manner | None = None
    ) -> None:
        self.folder, self.pad_id, self.precision, self.graph = folder, pad_id, precision, graph
        self.manner = manner or Manner()
        self.threads = wanted_threads()
        if self.manner.deterministic:
            self.batch_tokens = self.threads = 1
        renewed(self)

    def renew(self) -> None:
        """As `Renewable.renew` says."""
        self._lock = threading.Lock()

    @abstractmethod
    def compute(self, names: tuple[str, ...], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Some outputs of the graph, for all of its inputs."""

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says; one batch after the other.

        Raises:
            BothwaysError: Sparse vectors or layers before the last are asked for, which graphs do not give.
        """
        if output.kind == SPARSE or output.layers:
            what = "no sparse vectors" if output.kind == SPARSE else "the last layer's hidden states alone"
            raise BothwaysError(
                f"{self.folder} is exported and gives {what}; open the folder that it was exported from"
            )
        for batch in batches:
            answers = [self._answer(batch, first, last, output) for first, last in cut(batch.lengths)]
            yield batch, np.concatenate(answers)

    def _answer(self, batch: TokenBatch, first: int, last: int, output: Output) -> np.ndarray:
        lengths = batch.lengths[first:last]
        tokens = slice(batch.starts[first], batch.starts[last])
        real = np.arange(lengths[-1]) < lengths[:, None]
        ids = np.full(real.shape, self.pad_id, dtype=np.int64)
        ids[real] = batch.token_ids[tokens]
        given = {"input_ids": ids, "attention_mask": real.astype(np.int64)}
        if "token_type_ids" in self.inputs:
            given["token_type_ids"] = segments = np.zeros(real.shape, dtype=np.int64)
            segments[real] = batch.segment_ids[tokens]
        if "places" in self.inputs:
            given["places"] = np.flatnonzero(real & (ids == output.token))
        with self._lock, CORES.held(self.threads, self.threads):
            outputs = self.compute(_names(output), given)
        found = outputs[0] if len(outputs) == 1 else np.concatenate(outputs, axis=1)
        return found[real] if output.kind in BY_TOKEN else found

    def tables(self, kind: str) -> dict[str, np.ndarray]:
        """As `Engine.tables` says; of the heads that have nothing but tables."""
        from safetensors.numpy import load_file

        path = self.folder / TABLES_FILE
        if not path.is_file():
            raise BothwaysError(f"{self.folder} lacks {path.name}, so it is not whole; export the model again")
        return {
            name.removeprefix(f"{kind}."): values
            for name, values in load_file(path).items()
            if name.startswith(f"{kind}.")
        }

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        return {
            "engine": self.name,
            "precision": self.precision,
            "device": "cpu",
            "graph": self.graph,
            "deterministic": self.manner.deterministic,
        }


def _names(output: Output) -> tuple[str, ...]:
    """The outputs of a graph that make up what is wanted, side by side."""
    if output.kind != VECTOR:
        return (output.kind,)
    return (DENSE,) if output.dense else tuple(output.pooling.split("+"))


def cut(lengths_S: np.ndarray) -> list[tuple[int, int]]:
    """Where sorted sequences are cut into rectangles.

    Args:
        lengths_S: ``(S,)`` rising.

    Returns:
        The first sequence of each rectangle and the one behind its last.
    """
    pieces: list[tuple[int, int]] = []
    last = len(lengths_S)
    while last:
        longest = lengths_S[last - 1]
        padding = np.cumsum(longest - lengths_S[:last][::-1])
        tokens = longest * np.arange(1, last + 1)
        fits = (padding <= _CALL) | (padding * 8 <= tokens)
        count = last if fits.all() else int(np.argmin(fits))
        pieces.append((last - count, last))
        last -= count
    return pieces[::-1]


def graph_file(folder: Path, name: str) -> Path:
    """A file of an exported model.

    Raises:
        BothwaysError: It is missing.
    """
    path = folder / name
    if not path.is_file():
        raise BothwaysError(f"{folder} lacks {name}, so it is not whole; export the model again")
    return path
