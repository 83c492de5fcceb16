"""How fast a model runs on this machine: each engine and precision for some seconds, in a process of its own.

The texts are real ones of many lengths. What an engine computes is compared with plain float32 before it is
recommended: speed that changes the answers is none.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import progress, silent
from bothways.run.bound import FASTEST, LOSS, Bound, asked_bound, asked_metric

if TYPE_CHECKING:
    from bothways.run.model import Model

SIDES = (("reference", "float32"), *(("packed", kind) for kind in ("float32", "bf16", "int16", "int8")))
"""Engines and precisions that a model with weights is measured in."""
ASKED = (1, 8, 32)
"""How many texts are asked for at once where the time of an answer is measured."""
_SHORT = 20
"""Words of a text in such a question, at most."""
_EXACT = ("reference", "float32")


@dataclass(frozen=True)
class Embedded:
    """What one engine and precision came to.

    Attributes:
        engine: Its name.
        precision: What it multiplies.
        tokens_per_second: Of real tokens, over texts of many lengths.
        latency: Milliseconds until the answer to 1, 8 and 32 short texts: for each the median and the 99th percentile.
        memory: Peak bytes of the process; None where that is not known.
        load: Seconds from the start of the process to the first vector.
        worst_cosine: Of its vectors with those of plain float32.
        mean_cosine: The same on average.
        equal: The least share of equal decisions of a head; None for a model without heads that decide.
        metric: What the model reaches on labelled rows; None without them.
        change: How much more that is than in plain float32.
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
        model: A model folder or a hub id; also an exported one, which has one engine and precision.
        texts: What is embedded; English texts of many lengths that Python brings when not given.
        engine: Only this one.
        precision: Only this one.
        worst_cosine: As for `bothways.run.opening.load`, and so is the next one.
        equal_decisions: What int8 must keep.
        labelled: A file of labelled rows: the first metric of the model's task on them is measured too, and decides
            about int8 instead of the bound.
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
    from bothways.run.engines.choice import check_engine
    from bothways.run.exported import is_exported
    from bothways.run.folder import keep_lower
    from bothways.run.hub import find_model
    from bothways.run.precision import processor_kind

    if not 0 < seconds < float("inf"):
        raise BothwaysError(f"the seconds to measure must be above 0, not {seconds}")
    folder = find_model(model, False)
    if not is_exported(folder) and engine is not None:
        check_engine(engine)
    sides: list[tuple[str | None, str]] = [
        (name, kind) for name, kind in SIDES if engine in (None, name) and precision in (None, "auto", kind)
    ]
    if is_exported(folder):
        if keep:
            raise BothwaysError(
                f"{model} is exported and has one precision, so there is nothing to keep; leave keep out"
            )
        sides = [(None, "float32")]
    if not sides:
        raise BothwaysError(f"the engine {engine!r} does not compute in {precision}; leave one of them out")
    bound, asked_loss = asked_bound(worst_cosine, equal_decisions), None
    if labelled is not None or allowed_loss is not None:
        asked_loss = asked_metric(None if labelled is None else float, allowed_loss)
    said: dict[str, Any] = {"worst_cosine": worst_cosine, "equal_decisions": equal_decisions, "keep": keep}
    said |= {"labelled": None if labelled is None else str(labelled), "allowed_loss": allowed_loss, "exact": None}
    said |= {"threads": threads, "seconds": seconds}
    found: list[Embedded] = []
    with progress("Measuring", total=len(sides), unit="engines") as bar:
        for name, kind in sides:
            asked = {"engine": name, "precision": kind, **said}
            one = _in_process(str(folder), asked, None if texts is None else list(texts))
            if one.metric is not None and one.change is not None:
                said["exact"] = one.metric - one.change
            found.append(one)
            bar.advance(1, note=f"{found[-1].engine} {kind} {found[-1].tokens_per_second:,.0f} tokens/s")
    best = fastest(found, bound or Bound(), None if asked_loss is None else asked_loss.loss)
    if keep and best is not None:
        keep_lower(folder, {FASTEST: {processor_kind(): best.precision}}, {})
    return found


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


def recommendation(found: Sequence[Embedded], bound: Bound, allowed_loss: float | None = None) -> str:
    """What to choose, in a sentence: `fastest`."""
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
    return f"{told}, {like}: --precision {best.precision}"


def _in_process(model: str, asked: dict[str, Any], texts: list[str] | None) -> Embedded:
    task = {"model": model, "asked": asked, "texts": texts, "started": time.time()}
    done = subprocess.run(
        [sys.executable, "-m", __name__], input=json.dumps(task), capture_output=True, text=True, encoding="utf-8"
    )
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        if done.returncode < 0:
            raise BothwaysError(
                f"{asked} was ended by signal {-done.returncode}, probably for want of memory"
            ) from None
        raise RuntimeError(f"the measured process failed:\n{done.stderr[-3000:]}") from None
    if "refused" in answer:
        return Embedded(asked["engine"] or "exported", asked["precision"], refused=answer["refused"])
    latency = {int(count): tuple(times) for count, times in answer.pop("latency").items()}
    return Embedded(**answer, latency=latency)


# -- the process that is measured


def main() -> None:
    """What the measured process does: runs the model, and prints a line of JSON."""
    task = json.loads(sys.stdin.read())
    silent()
    try:
        answer = _measure(**task)
    except BothwaysError as mistake:
        answer = {"refused": str(mistake)}
    print(json.dumps(answer))  # noqa: T201 - to the process that asked


def _measure(model: str, asked: dict[str, Any], texts: list[str] | None, started: float) -> dict[str, Any]:
    import bothways as bw
    from bothways.run.folder import keep_lower
    from bothways.run.lower import LOWER
    from bothways.run.machine import peak_memory

    if asked["threads"]:
        import torch

        torch.set_num_threads(asked["threads"])
    from bothways.run.check import real_texts

    bound = {name: asked[name] for name in ("worst_cosine", "equal_decisions")}
    opened = bw.load(model, engine=asked["engine"], precision=asked["precision"], truncation="head", **bound)
    metric = None
    if asked["labelled"] is not None:
        from bothways.learn.evaluate import labelled_metric

        metric = labelled_metric(opened, asked["labelled"])
        if asked["precision"] in LOWER:
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
        some = [short[place % len(short)] for place in range(count)]
        times = list(_times(lambda some=some: opened.embed(some), asked["seconds"] / 5))  # type: ignore[misc]
        latency[count] = [float(np.percentile(times, at)) * 1e3 for at in (50, 99)]
    memory = peak_memory()  # here: comparing is not running
    if asked["keep"] and asked["precision"] in opened._known.lower:
        entry = {**opened._known.lower[asked["precision"]], "chosen": True}
        keep_lower(
            Path(model), {asked["precision"]: entry}, opened._saved.rounded if asked["precision"] == "int8" else {}
        )
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


def _scored(model: Model, metric: Callable[[Any], float], exact: float | None) -> dict[str, float]:
    """What the model reaches, and how much more that is than what it reaches in plain float32, once that is known."""
    from bothways.run.engines.reference import ReferenceEngine

    reached = metric(model)
    if exact is None:
        exact = metric(model.on(ReferenceEngine(model.parts, "float32")))
    return {"metric": reached, "change": reached - exact}


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
        check = model.exported["check"]
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
