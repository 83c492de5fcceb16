"""One engine and precision at work for some seconds, in a process of its own: what `bench_embed` is told of it.

Run as a module it reads what to do as JSON from standard input and writes what it found as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import silent

if TYPE_CHECKING:
    from bothways.run.model import Model

ASKED = (1, 8, 32)
"""How many texts are asked for at once where the time of an answer is measured."""
_SHORT = 20
"""Words of a text in such a question, at most."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""What tells the libraries of a new process how many threads they may use."""


def in_process(task: dict[str, Any], threads: int | None = None) -> dict[str, Any]:
    """Does a task in a process of its own.

    Args:
        task: ``do`` (``"measure"`` or ``"export"``) and what `measure` or `export` takes.
        threads: As many as it may use; None: as this process.

    Returns:
        What it found, or why it refused (``refused``).

    Raises:
        BothwaysError: It was killed.
    """
    told = {} if threads is None else dict.fromkeys(_THREADS, str(threads))
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | told,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if done.returncode < 0:
            raise BothwaysError(
                f"measuring {task['asked']} was ended by signal {-done.returncode}, probably for want of memory"
            ) from None
        raise RuntimeError(f"the measured process failed:\n{done.stderr[-3000:]}") from None
    return answer


def main() -> None:
    """What the process does."""
    task = json.loads(sys.stdin.read())
    silent()
    do: Callable[..., dict[str, Any]] = export if task.pop("do") == "export" else measure
    try:
        answer = do(**task)
    except BothwaysError as mistake:
        answer = {"refused": str(mistake)}
    print(json.dumps(answer))  # noqa: T201 - to the process that asked


def export(model: str, out: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Exports a model to be measured.

    Args:
        model: Its folder.
        out: The folder that is made.
        asked: ``engine`` and ``precision``, the bound, and labelled rows or None.
    """
    import bothways as bw

    opened = bw.load(model, device="cpu")
    metric = None
    if asked["labelled"] is not None and asked["precision"] == "int8":
        from bothways.learn.evaluate import labelled_metric

        metric = labelled_metric(opened, asked["labelled"])
    opened.export(
        out,
        to=asked["engine"],
        precision=asked["precision"] if asked["precision"] == "int8" else "float32",
        metric=metric,
        allowed_loss=None if metric is None else asked["allowed_loss"],
        worst_cosine=asked["worst_cosine"],
        equal_decisions=asked["equal_decisions"],
    )
    return {}


def measure(model: str, asked: dict[str, Any], texts: list[str] | None, started: float) -> dict[str, Any]:
    """Runs a model.

    Args:
        model: Its folder, which may be an exported one.
        asked: ``engine``, ``precision``, ``device`` or None, the bound, ``seconds``, labelled rows or None, what the
            model reaches on them in float32 (``exact``) if that is known, and whether the folder is to ``keep`` what
            was found.
        texts: What is embedded; None: English texts of many lengths.
        started: When the process was asked for, in seconds since the epoch.

    Returns:
        The fields of `bothways.use.bench_embed.Embedded`.
    """
    import bothways as bw
    from bothways.run.check import real_texts

    bound = {name: asked[name] for name in ("worst_cosine", "equal_decisions")}
    opened = bw.load(
        model,
        engine=asked["engine"],
        precision=asked["precision"],
        device=asked["device"],
        truncation="head",
        **bound,
    )
    metric = None
    if asked["labelled"] is not None:
        from bothways.learn.evaluate import labelled_metric
        from bothways.run.lower import LOWER

        metric = labelled_metric(opened, asked["labelled"])
        if asked["precision"] in LOWER and asked["engine"] == "packed":
            opened.quantize(asked["precision"], metric=metric, allowed_loss=asked["allowed_loss"], **bound)
            started = time.time()  # searching is not loading
    opened.embed("the first vector")
    load = time.time() - started
    texts = texts or real_texts(min(opened.max_length or 512, 256))
    tokens = len(opened.encode(texts).token_ids)
    rates = [tokens / one for one in _times(lambda: opened.embed(texts), asked["seconds"])]
    short = [" ".join(text.split()[:_SHORT]) for text in texts]
    latency = {}
    for count in ASKED:
        others = _in_turn(short, count)
        times = list(_times(lambda others=others: opened.embed(next(others)), asked["seconds"] / 5))  # type: ignore[misc]
        latency[count] = [float(np.percentile(times, at)) * 1e3 for at in (50, 99)]
    memory = _memory(opened)  # here: comparing is not running
    if asked["keep"]:
        _keep(opened, Path(model), asked["precision"])
    return {
        "engine": opened.engine.name,
        "precision": opened.engine.precision,
        "tokens_per_second": float(np.median(rates)),
        "latency": latency,
        "memory": memory,
        "load": load,
        **_alike(opened, texts),
        **({} if metric is None else _scored(opened, metric, asked["exact"])),
    }


def _in_turn(texts: list[str], count: int) -> Iterator[list[str]]:
    """So many texts at a time, always the next ones: what an engine keeps for texts that come again tells nothing."""
    endless = cycle(texts)
    while True:
        yield list(islice(endless, count))


def _memory(model: Any) -> int | None:
    """The most bytes held so far: of the GPU where the model lies on one, else of the process."""
    from bothways.run.machine import peak_memory

    device = getattr(model, "device", None)  # an exported model has none
    if device is None or device.type != "cuda":
        return peak_memory()
    import torch

    return torch.cuda.max_memory_allocated(device)


def _keep(model: Model, folder: Path, precision: str) -> None:
    """Writes into the model's folder what was found of a precision."""
    from bothways.run.folder import keep_lower

    if precision in model._known.lower:
        entry = {**model._known.lower[precision], "chosen": True}
        keep_lower(folder, {precision: entry}, model._saved.rounded if precision == "int8" else {})


def _scored(model: Model, metric: Callable[[Any], float], exact: float | None) -> dict[str, float | None]:
    """What the model reaches, and how much more that is than what it reaches in plain float32, where that is known."""
    from bothways.run.exported import Exported

    reached = metric(model)
    if exact is None and not isinstance(model, Exported):
        from bothways.run.engines.reference import ReferenceEngine

        exact = metric(model.on(ReferenceEngine(model.parts, "float32")))
    return {"metric": reached, "change": None if exact is None else reached - exact}


def _times(work: Callable[[], Any], seconds: float) -> Iterator[float]:
    """How long some work takes, again and again for so many seconds; the first time does not count."""
    work()
    began = time.perf_counter()
    while True:
        before = time.perf_counter()
        work()
        yield time.perf_counter() - before
        if time.perf_counter() - began > seconds:
            return


def _alike(model: Model, texts: list[str]) -> dict[str, Any]:
    """How like plain float32 the outputs are; an exported model was compared when it was made."""
    from bothways.run.engines.protocol import VECTOR
    from bothways.run.exported import Exported

    if isinstance(model, Exported):
        check = model.check
    else:
        from bothways.run.check import compare_engines
        from bothways.run.engines.reference import ReferenceEngine

        exact = ReferenceEngine(model.parts, "float32")
        check = compare_engines(model, exact, model.engine, texts[:: max(1, len(texts) // 64)])
    decisions = [check[kind]["equal"] for kind in model.head_configs if kind in check and "equal" in check[kind]]
    return {
        "worst_cosine": check[VECTOR]["worst_cosine"],
        "mean_cosine": check[VECTOR]["mean_cosine"],
        "equal": min(decisions, default=None),
    }


if __name__ == "__main__":
    main()
