"""Lower precision for good: looked for once, compared, timed on this kind of processor, and kept with the model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError, closest
from bothways.run.bound import FASTEST, Bound, Metric, note
from bothways.run.check import real_texts
from bothways.run.engines.packed.calibrate import as_tensors
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int16 import can_int16
from bothways.run.engines.protocol import VECTOR, Engine, Output, budget
from bothways.run.guard import Checked, checked
from bothways.run.precision import native_bf16
from bothways.run.processor import processor_kind

if TYPE_CHECKING:
    from bothways.run.model import Model

LOWER = ("int8", "int16", "bf16")
_SECONDS = 0.5
"""For which each precision is timed."""
_SHORT = 64
"""Words of a text, at most, where it only matters which of two is faster."""


@dataclass(frozen=True)
class Quantized:
    """What was found.

    Attributes:
        precision: What was asked for.
        kept: The layers that stay in higher precision, those that hurt most first.
        check: For each output how like float32 it is.
        metric: Its name, the loss allowed, and what the model reaches in float32 (exact) and now (found); None where
            none was asked.
        tokens_per_second: By precision, on this machine.
        fastest: What ``precision="auto"`` now takes on this kind of processor.
    """

    precision: str
    kept: tuple[str, ...]
    check: dict[str, Any]
    metric: dict[str, Any] | None
    tokens_per_second: dict[str, float]
    fastest: str


def quantize(
    model: Model, precision: str, texts: Sequence[str] | None, bound: Bound | None, metric: Metric | None
) -> Quantized:
    """Finds what a precision costs a model, and notes it in what is known of the model; as `Model.quantize` says."""
    if precision not in LOWER:
        known = f"{', '.join(LOWER[:-1])} or {LOWER[-1]}"
        raise BothwaysError(f"a model is quantized to {known}, not to {precision!r}{closest(precision, LOWER)}")
    if model.device.type != "cpu":
        raise BothwaysError(
            f"{precision} and its comparison run on a processor, not on {str(model.device)!r}: to('cpu')"
        )
    bound, texts = bound or Bound(), list(texts or real_texts(model.max_length))
    parts = model.parts
    found = checked(model, parts, precision, bound, texts, metric=metric)
    engines: dict[str, Engine] = {"float32": PackedEngine(parts, "float32"), precision: found.engine}
    remember(model, precision, found, bound, chosen=True)
    others = {"bf16": native_bf16("cpu")[0], "int16": can_int16()}
    for name in (name for name, able in others.items() if able and precision == "int8"):
        try:
            other = checked(model, parts, name, bound, texts, metric=metric, search=False)
        except BothwaysError:  # too far: then it is no choice
            continue
        engines[name] = other.engine
        remember(model, name, other, bound, chosen=True)
        break  # bf16 is the faster one where both can be taken
    speeds = {name: _speed(model, engine, texts) for name, engine in engines.items()}
    fastest = max(speeds, key=lambda name: speeds[name])
    lower = model._known.lower
    lower[FASTEST] = {**lower.get(FASTEST, {}), processor_kind(): fastest}
    return Quantized(precision, found.kept, found.check, found.metric, speeds, fastest)


def remember(model: Model, precision: str, found: Checked, bound: Bound, *, chosen: bool = False) -> None:
    """Notes what was found, with the weights that it was found for."""
    noted = found.noted() | {"weights": model.parts.fingerprint()}
    note(model._known.lower, precision, noted, bound, chosen=chosen)
    if precision == "int8":
        model._saved.rounded = as_tensors(found.rounded)


def gain(model: Model, engine: PackedEngine) -> float:
    """How many times as fast as float32 an engine is here, on short texts."""
    texts = real_texts(_SHORT)[::4]
    exact = PackedEngine(model.parts, "float32", manner=engine.manner)
    return _speed(model, engine, texts) / _speed(model, exact, texts)


def _speed(model: Model, engine: Engine, texts: Sequence[str]) -> float:
    """Tokens a second, the best of some passes."""
    encoded = model.tokenizer.encode(list(texts), None, max_length=model.max_length, truncation="head")
    output = Output(VECTOR, model.sentence.pooling)

    def seconds() -> float:
        began = time.perf_counter()
        for _ in engine.run(encoded.batches(budget(engine, len(encoded.token_ids))), output):
            pass
        return time.perf_counter() - began

    return len(encoded.token_ids) / _best(seconds)


def _best(seconds: Callable[[], float]) -> float:
    seconds()  # the first also sets up kernels
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 2:
        times.append(seconds())
    return min(times)
