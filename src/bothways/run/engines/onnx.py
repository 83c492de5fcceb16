"""The engine of exported models on ONNX Runtime: no torch, a small installation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bothways.errors import BothwaysError, need
from bothways.run.engines.protocol import Manner
from bothways.run.engines.rectangles import RectangleEngine, graph_file

GRAPH, WEIGHTS = "model.onnx", "model.onnx.data"


class OnnxEngine(RectangleEngine):
    """Runs ``model.onnx`` on a processor.

    Args:
        folder: The exported model's.
        pad_id: What fills up short texts.
        precision: What it was exported in.
        graph: A hash of the graph.
        manner: How it runs.

    Raises:
        BothwaysError: ONNX Runtime is not installed, or the graph is missing or damaged.
    """

    name = "onnx"

    def __init__(
        self, folder: Path, pad_id: int, precision: str, graph: str = "", manner: Manner | None = None
    ) -> None:
        super().__init__(folder, pad_id, precision, graph, manner)
        runtime = need("onnxruntime", "light", "A model exported to onnx")
        path = graph_file(folder, GRAPH)
        graph_file(folder, WEIGHTS)
        options = runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = False  # it would keep the memory of the longest batch for good
        # threads that spin between batches take the processor from whoever tokenizes
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own kinds, none of them public
            reason = str(error).strip().partition("\n")[0]
            raise BothwaysError(f"{path} cannot be run ({reason:.200}); export the model again") from None
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self._only = runtime.RunOptions()
        self._only.only_execute_path_to_fetches = True  # the other outputs are not computed

    def compute(self, names: tuple[str, ...], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        """As `RectangleEngine.compute` says."""
        found: list[np.ndarray] = self._session.run(list(names), given, self._only)
        return found

    def describe(self) -> dict[str, Any]:
        """As `Engine.describe` says."""
        import onnxruntime

        return {**super().describe(), "threads": self.threads, "onnxruntime": onnxruntime.__version__}
