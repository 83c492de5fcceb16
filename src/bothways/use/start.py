"""Where the time goes from the start of a process to a model's first answer: measured in processes of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.exported import Exported
from bothways.run.opening import load

RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino"}
TEXT = "How long does it take until the first text has an answer?"
RUNS = 3
"""Processes whose medians are told; one before them fills the caches of the system."""

_CHILD = """
import sys, time
times = [float(sys.argv[1]), time.time()]
import importlib, json
import bothways as bw
_, _, runtime, model, options, text = sys.argv
bw.load
times.append(time.time())
importlib.import_module(runtime)
times.append(time.time())
opened = bw.load(model, **json.loads(options))
times.append(time.time())
for _ in range(5):
    opened.hidden(text)
    times.append(time.time())
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""


def start_times(model: str, **options: Any) -> dict[str, float]:
    """Seconds of each part of a start, in the order in which they pass.

    Args:
        model: A model folder, with weights or exported, or a hub id.
        options: What `load` takes, as far as JSON can say it.

    Returns:
        ``python``; ``bothways``, imported with NumPy; ``torch``, ``onnxruntime`` or ``openvino``, imported; ``model``,
        opened; ``first text``; ``start``, all of these together; and ``next text``, the fastest of four.

    Raises:
        BothwaysError: There is no such model, or it cannot be opened as asked.
    """
    opened = load(model, **options)
    runtime = RUNTIMES[opened.exported["to"]] if isinstance(opened, Exported) else "torch"
    found = [_times(runtime, model, options) for _ in range(RUNS + 1)][1:]
    names = ("python", "bothways", runtime, "model", "first text")
    parts = {name: statistics.median(times[place] for times in found) for place, name in enumerate(names)}
    parts["start"] = statistics.median(sum(times[: len(names)]) for times in found)
    return {**parts, "next text": min(min(times[len(names) :]) for times in found)}


def _times(runtime: str, model: str, options: dict[str, Any]) -> list[float]:
    typed = [sys.executable, "-c", _CHILD, str(time.time()), runtime, model, json.dumps(options), TEXT]
    done = subprocess.run(typed, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no word of why"])[-1]
        raise BothwaysError(
            f"{model} could not be opened in a process of its own ({last:.200}); try bothways info {model}"
        )
    times: list[float] = json.loads(done.stdout.splitlines()[-1])
    return times
