"""How fast a model runs on this machine: each engine and precision for some seconds, in a process of its own.

The texts are real ones of many lengths. What an engine computes is compared with plain float32 before it is
recommended: speed that changes the answers is none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bothways.errors import BothwaysError, closest
from bothways.progress import progress
from bothways.run.bound import FASTEST, LOSS, Bound, asked_bound, asked_metric
from bothways.run.machine import BF16_FEATURES, processor_features
from bothways.use.bench_side import ASKED, in_process

__all__ = ["ASKED", "Embedded", "bench_embed", "fastest", "recommendation"]

_PACKED = tuple(("packed", kind) for kind in ("float32", "bf16", "int16", "int8"))
_GPU = tuple(("gpu", kind) for kind in ("float32", "bf16", "fp16"))
_EXPORTED = (("onnx", "float32"), ("onnx", "int8"), ("openvino", "float32"), ("openvino", "bf16"))
SIDES = (("reference", "float32"), *_PACKED, *_GPU, *_EXPORTED)
"""Engines and precisions that a model with weights is measured in, where they are there."""
_RUNTIMES = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("onnx", "onnxscript", "openvino")}
"""What an engine of exported graphs is made and run with."""
_EXACT = ("reference", "float32")


@dataclass(frozen=True)
class Embedded:
    """What one engine and precision came to.

    Attributes:
        engine: Its name.
        precision: What it multiplies.
        tokens_per_second: Of real tokens, over texts of many lengths.
        latency: Milliseconds until the answer to 1, 8 and 32 short texts: for each the median and the 99th percentile.
        memory: Peak bytes of the process, or of the GPU that it computes on; None where that is not known.
        load: Seconds from the start of the process to the first vector.
        worst_cosine: Of its vectors with those of plain float32.
        mean_cosine: The same on average.
        equal: The least share of equal decisions of a head; None for a model without heads that decide.
        metric: What the model reaches on labelled rows; None without them.
        change: How much more that is than in plain float32, where that is known.
        refused: Why it cannot be used, where it cannot; then all numbers are 0.
    """

    engine: str
    precision: str
    tokens_per_second: float = 0.0
    latency: dict[int, tuple[float, float]] | None = None
    memory: int | None = None
    load: float = 0.0
    worst_cosine: float = 0.0
    mean_cosine: float = 0.0
    equal: float | None = None
    metric: float | None = None
    change: float | None = None
    refused: str = ""


def bench_embed(
    model: str | Path,
    texts: Sequence[str] | None = None,
    *,
    engine: str | None = None,
    precision: str | None = None,
    worst_cosine: float | None = None,
    equal_decisions: float | None = None,
    labelled: str | Path | None = None,
    allowed_loss: float | None = None,
    keep: bool = False,
    threads: int | None = None,
    seconds: float = 10.0,
) -> list[Embedded]:
    """Measures how fast a model runs here.

    Args:
        model: A model folder or a hub id; also an exported one, which has one engine.
        texts: What is embedded; English texts of many lengths that Python brings when not given.
        engine: Only this one: ``"reference"``, ``"packed"``, ``"gpu"``, ``"onnx"`` or ``"openvino"``; for the last two
            the model is exported into a folder that is thrown away. None measures all that there are here.
        precision: Only this one.
        worst_cosine: As for `bothways.run.opening.load`, and so is the next one.
        equal_decisions: What lower precision must keep.
        labelled: A file of labelled rows: the first metric of the model's task on them is measured too, and decides
            about lower precision instead of the bound.
        allowed_loss: How much of that metric may be lost, 0.005 when not given.
        keep: Whether the model's folder keeps what was found, and the fastest of it for this kind of processor, which
            is what ``precision="auto"`` then takes.
        threads: As many as the process may use when not given.
        seconds: For which the throughput of each is measured.

    Returns:
        What was measured, the exact one first.

    Raises:
        BothwaysError: The model cannot be opened, or no engine remains.
    """
    from bothways.run.exported import is_exported
    from bothways.run.hub import find_model
    from bothways.run.processor import processor_kind

    if not 0 < seconds < float("inf"):
        raise BothwaysError(f"the seconds to measure must be above 0, not {seconds}")
    folder = find_model(model, False)
    engine, precision = (None if said == "auto" else said for said in (engine, precision))
    if is_exported(folder):
        if keep:
            raise BothwaysError(f"{model} is exported, and its precision is not chosen by what is kept; leave keep out")
        sides = _sides_of_exported(folder, engine, precision, str(model))
    else:
        sides = _sides(engine, precision)
    bound, loss = asked_bound(worst_cosine, equal_decisions) or Bound(), LOSS
    if labelled is not None or allowed_loss is not None:
        asked_loss = asked_metric(None if labelled is None else float, allowed_loss)
        loss = loss if asked_loss is None else asked_loss.loss
    said: dict[str, Any] = {"worst_cosine": worst_cosine, "equal_decisions": equal_decisions, "seconds": seconds}
    said |= {"labelled": None if labelled is None else str(labelled), "allowed_loss": allowed_loss, "exact": None}
    found: list[Embedded] = []
    with TemporaryDirectory(prefix="bothways-") as scratch, progress("Measuring", len(sides), "engines") as bar:
        for name, kind in sides:
            asked = {"engine": name, "precision": kind, "device": "cuda" if name == "gpu" else "cpu", **said}
            asked["keep"] = keep and name == "packed"
            one = _measured(folder, asked, None if texts is None else list(texts), threads, Path(scratch))
            if one.metric is not None and one.change is not None:
                said["exact"] = one.metric - one.change
            found.append(one)
            bar.advance(1, note=f"{one.engine} {one.precision} {one.tokens_per_second:,.0f} tokens/s")
    if all(one.refused for one in found):
        raise BothwaysError(found[0].refused)
    best = fastest([one for one in found if (one.engine, one.precision) in (_EXACT, *_PACKED)], bound, loss)
    if keep and best is not None:
        from bothways.run.folder import keep_lower

        keep_lower(folder, {FASTEST: {processor_kind(): best.precision}}, {})
    return found


def _sides(engine: str | None, precision: str | None) -> list[tuple[str, str]]:
    """What a model with weights is measured in: all that is there, or what was asked for.

    Raises:
        BothwaysError: There is no such engine, or it does not compute so.
    """
    names = tuple(dict.fromkeys(name for name, _ in SIDES))
    if engine is not None and engine not in names:
        raise BothwaysError(f"there is no engine {engine!r}; there are {', '.join(names)}{closest(engine, names)}")
    sides = [side for side in SIDES if engine in (None, side[0]) and precision in (None, side[1])]
    if not sides:
        who = f"the engine {engine!r} does not compute" if engine else "no engine computes"
        raise BothwaysError(f"{who} in {precision!r}; leave one of them out")
    return sides if engine else [side for side in sides if _is_there(*side)]


def _is_there(engine: str, precision: str) -> bool:
    """Whether an engine is measured where none was asked for by its name."""
    if engine == "gpu":
        import torch

        return torch.cuda.is_available()
    if (engine, precision) == ("openvino", "bf16") and not set(BF16_FEATURES) & set(processor_features()):
        return False
    return all(find_spec(module) is not None for module in _RUNTIMES.get(engine, ()))


def _sides_of_exported(folder: Path, engine: str | None, precision: str | None, name: str) -> list[tuple[str, str]]:
    """What an exported model is measured in: as it was exported, and in bf16 if its runtime rounds to it.

    Raises:
        BothwaysError: It was exported to something else, or is damaged.
    """
    from bothways.run.exported import Exported

    made = Exported(folder, engine=engine, precision=precision or "float32", name=name)
    to = made.exported["to"]
    if precision is not None:
        return [(to, made.precision)]
    kinds = dict.fromkeys((made.precision, Exported(folder, precision="auto").precision))
    return [(to, kind) for kind in kinds]


def _measured(
    folder: Path, asked: dict[str, Any], texts: list[str] | None, threads: int | None, scratch: Path
) -> Embedded:
    """Exports the model first where the engine runs graphs only."""
    from bothways.run.exported import is_exported

    engine, precision = asked["engine"], asked["precision"]
    if engine in _RUNTIMES and not is_exported(folder):
        out = scratch / f"{engine}-{'int8' if precision == 'int8' else 'float32'}"
        if not out.exists():
            answer = in_process({"do": "export", "model": str(folder), "out": str(out), "asked": asked}, threads)
            if "refused" in answer:
                return Embedded(engine, precision, refused=answer["refused"])
        folder = out
    task = {"do": "measure", "model": str(folder), "asked": asked, "texts": texts, "started": time.time()}
    answer = in_process(task, threads)
    if "refused" in answer:
        return Embedded(engine, precision, refused=answer["refused"])
    latency = {int(count): tuple(times) for count, times in answer.pop("latency").items()}
    return Embedded(**answer, latency=latency)


def fastest(found: Sequence[Embedded], bound: Bound, allowed_loss: float | None = None) -> Embedded | None:
    """The fastest that stays within a bound, or loses no more of the metric that was measured; None: none does."""

    def within(one: Embedded) -> bool:
        if one.change is not None:
            return one.change >= -(LOSS if allowed_loss is None else allowed_loss)
        if one.equal is not None:
            return one.equal >= bound.equal_decisions
        return one.worst_cosine >= bound.worst_cosine

    able = [one for one in found if not one.refused and within(one)]
    return max(able, key=lambda one: one.tokens_per_second, default=None)


def recommendation(
    found: Sequence[Embedded], bound: Bound, allowed_loss: float | None = None, *, exported: bool = False
) -> str:
    """What to choose, in a sentence: `fastest`.

    Args:
        found: What was measured.
        bound: What must hold.
        allowed_loss: Of the metric that was measured.
        exported: Whether the model is an exported one.
    """
    best = fastest(found, bound, allowed_loss)
    if best is None:
        return "none stays within the bound; take float32"
    able = [one for one in found if not one.refused]
    told = f"{best.engine} in {best.precision}: {best.tokens_per_second:,.0f} tokens a second"
    exact = next((one for one in able if (one.engine, one.precision) == _EXACT), None)
    if exact is not None and best is not exact:
        told += f", {best.tokens_per_second / exact.tokens_per_second:.1f}× plain torch in float32"
    like = f"worst cosine {best.worst_cosine:.5f}" if best.equal is None else f"{best.equal:.1%} equal decisions"
    if best.change is not None:
        like = f"{best.change:+.4f} in the metric"
    how = f"--precision {best.precision}"
    if best.engine in _RUNTIMES and not exported:
        graph = "int8" if best.precision == "int8" else "float32"
        then = f", and {how} there" if best.precision != graph else ""
        how = f"bothways export MODEL OUT --to {best.engine} --precision {graph}{then}"
    return f"{told}, {like}: {how}"
