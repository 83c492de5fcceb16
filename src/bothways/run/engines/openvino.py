"""The engine of exported models on OpenVINO, which also computes a float32 graph in bf16 where the processor can."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.run.engines.protocol import Manner
from bothways.run.engines.rectangles import RectangleEngine, graph_file

GRAPH, WEIGHTS = "model.xml", "model.bin"
_KINDS = {"float32": "f32", "bf16": "bf16"}


class OpenVinoEngine(RectangleEngine):
    """Runs ``model.xml`` on a processor.

    Args:
        folder: The exported model's.
        pad_id: What fills up short texts.
        precision: ``"float32"`` or ``"bf16"``.
        graph: A hash of the graph.
        manner: How it runs.

    Raises:
        BothwaysError: OpenVINO is not installed, or the graph is missing or damaged.
    """

    name = "openvino"

    def __init__(
        self, folder: Path, pad_id: int, precision: str, graph: str = "", manner: Manner | None = None
    ) -> None:
        super().__init__(folder, pad_id, precision, graph, manner)
        self._openvino = need("openvino", "openvino", "A model exported to openvino")
        path = graph_file(folder, GRAPH)
        graph_file(folder, WEIGHTS)
        try:
            self._graph = _core(self._openvino).read_model(path)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BothwaysError(f"{path} cannot be run ({reason:.200}); export the model again") from None
        self.inputs = tuple(value.any_name for value in self._graph.inputs)
        self._compiled: dict[tuple[str, ...], Any] = {}

    def compute(self, names: tuple[str, ...], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """As `RectangleEngine.compute` says."""
        if names not in self._compiled:
            self._compiled[names] = self._compile(names).create_infer_request()
        found = self._compiled[names].infer(given, share_inputs=True)
        return [found[place] for place in range(len(names))]

    def _compile(self, names: tuple[str, ...]) -> Any:
        """The part of the graph that leads to some outputs: OpenVINO always computes all of what it compiled."""
        results = {name: result for result in self._graph.get_results() for name in result.input_value(0).get_names()}
        wanted = [results[name] for name in names]
        part = self._openvino.Model(wanted, self._graph.get_parameters())
        settings = {
            "INFERENCE_PRECISION_HINT": _KINDS[self.precision],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
        }
        return _core(self._openvino).compile_model(part, "CPU", settings)

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        found = self._openvino.get_version().partition("-")[0]
        return {**super().describe(), "threads": self.threads, "openvino": found}


@cache
def _core(openvino: Any) -> Any:
    """The one of this process, kept for good.

    Each brings the main thread a stack for signals and takes it away with itself. Of two, the one that goes last gives
    back the other's, which is there no more: the next Ctrl-C would end the process.
    """
    return openvino.Core()
