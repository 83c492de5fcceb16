"""The guard of lower precision: what an engine computes is compared with float32 on real texts, before it is trusted.

Layers that hurt most are kept in higher precision until the bound holds; what was found is plain data that is saved
with the model, so that it is looked for once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.run.bound import Bound, Metric, judged, said
from bothways.run.check import compare_engines, real_texts
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.calibrate import calibrate
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int8 import Rounded, can_int8
from bothways.run.engines.packed.pack import layers, sizes
from bothways.run.engines.protocol import HIDDEN, Engine, Manner, Output
from bothways.run.runner import Runner

_CALIBRATION_TOKENS = 1024
_SOME = 4
"""Each layer alone is tried on every fourth text only."""


@dataclass(frozen=True)
class Found:
    """What came of comparing an engine.

    Attributes:
        check: For each output how like float32 it is.
        metric: What the model reaches with it; None where no metric was asked.
    """

    check: dict[str, Any]
    metric: float | None = None


class Judge:
    """Compares engines with the exact one, and says whether they do.

    Args:
        model: Whose tokenizer and heads tell what is compared.
        exact: What is to be computed.
        texts: Real texts of many lengths.
        bound: What must hold; where there is a metric, that alone decides.
        metric: Measured with every engine.
    """

    def __init__(
        self, model: Runner, exact: Engine, texts: Sequence[str], bound: Bound, metric: Metric | None = None
    ) -> None:
        self.model, self.texts, self.bound, self.metric = model, texts, bound, metric
        self.exact_metric = None if metric is None else metric.measure(model.on(exact))
        self._exact = _Remembered(exact)

    def found(self, engine: Engine) -> Found:
        """What an engine gives for all texts."""
        value = None if self.metric is None else self.metric.measure(self.model.on(engine))
        return Found(compare_engines(self.model, self._exact, engine, self.texts), value)

    def glance(self, engine: Engine) -> dict[str, Any]:
        """The likeness on some of the texts only."""
        return compare_engines(self.model, self._exact, engine, self.texts[1::_SOME])

    def holds(self, found: Found) -> bool:
        """Whether what was found is near enough."""
        if self.metric is None or found.metric is None or self.exact_metric is None:
            return self.bound.holds(found.check)
        return found.metric >= self.exact_metric - self.metric.loss

    def said(self, found: Found) -> str:
        """What was found, in words."""
        if self.metric is None:
            return said(found.check)
        return f"at {found.metric:.4f} in {self.metric.name}, in float32 at {self.exact_metric:.4f}"

    def asked(self) -> str:
        """What must hold, in words."""
        return str(self.bound) if self.metric is None else f"a loss of {self.metric.loss:g} in {self.metric.name}"

    def noted(self, found: Found) -> dict[str, Any]:
        """What is worth keeping of it, as plain data."""
        if self.metric is None:
            return {"check": found.check}
        values = {"name": self.metric.name, "loss": self.metric.loss, "exact": self.exact_metric}
        return {"check": found.check, "metric": values | {"found": found.metric}}


@dataclass(frozen=True)
class Checked:
    """An engine whose outputs were compared with float32.

    Attributes:
        engine: The engine.
        kept: The layers that stayed in higher precision, those that hurt most first.
        check: For each output how like float32 it is.
        rounded: The weights of the int8 layers.
        metric: Its name, the loss allowed, what the model reached in float32 (exact) and with the engine (found).
    """

    engine: PackedEngine
    kept: tuple[str, ...] = ()
    check: dict[str, Any] = field(default_factory=dict)
    rounded: dict[str, Rounded] = field(default_factory=dict)
    metric: dict[str, Any] | None = None

    def noted(self) -> dict[str, Any]:
        """As plain data."""
        found: dict[str, Any] = {"kept": list(self.kept), "check": self.check}
        return found if self.metric is None else found | {"metric": self.metric}


def checked(
    model: Runner,
    parts: Parts,
    precision: str,
    bound: Bound | None = None,
    texts: Sequence[str] | None = None,
    manner: Manner | None = None,
    metric: Metric | None = None,
    search: bool = True,
) -> Checked:
    """An engine of lower precision that stays within a bound: int8 with layers kept in bf16 or int16, those in float32.

    Args:
        model: Whose tokenizer and heads tell what is compared.
        parts: Its modules.
        precision: ``"bf16"``, ``"int16"`` or ``"int8"``.
        bound: What must hold.
        texts: Real texts of many lengths; English ones when not given. int8 rounds weights by every second of them.
        manner: How the engine runs.
        metric: What decides instead of the bound.
        search: Whether layers are kept where all in lower precision are beyond the bound, which takes a while.

    Raises:
        BothwaysError: The processor or this torch lacks the precision, or the bound cannot be held; the sentence names
            the layer that hurts most, if they were looked at.
    """
    texts, manner = list(texts or real_texts(model.max_length)), manner or Manner()
    rounded = _rounded(model, parts, texts) if precision == "int8" else {}
    weights = {name: found.weight.numel() for name, found in rounded.items()} or sizes(parts.encoder)
    exact = PackedEngine(parts, "float32", manner=manner)
    judge = Judge(model, exact, texts, bound or Bound(), metric)
    asked = _Search(parts, judge, manner, precision, weights, rounded)
    engine = asked.engine(weights)
    first = judge.found(engine)
    if judge.holds(first):
        return asked.checked(engine, first)
    if not search:
        raise BothwaysError(
            f"{model.name} in {precision} is {judge.said(first)}, beyond the bound ({judge.asked()}); use float32"
        )
    return _search(asked, first)


@dataclass(frozen=True)
class _Search:
    parts: Parts
    judge: Judge
    manner: Manner
    precision: str
    sizes: dict[str, int]
    rounded: dict[str, Rounded]

    def engine(self, names: Iterable[str]) -> PackedEngine:
        """With so many layers in lower precision."""
        lower = set(names)
        kept = [] if self.rounded else [name for name in self.sizes if name not in lower]
        used = {name: self.rounded[name] for name in lower & self.rounded.keys()}
        return PackedEngine(self.parts, self.precision, rounded=used, manner=self.manner, kept=kept)

    def checked(self, engine: PackedEngine, found: Found, kept: Sequence[str] = ()) -> Checked:
        """What was found good."""
        used = {name: weight for name, weight in self.rounded.items() if name not in kept}
        return Checked(engine, tuple(kept), rounded=used, **self.judge.noted(found))


class _Remembered:
    """An engine that computes the same batch once."""

    def __init__(self, engine: Engine) -> None:
        self.name, self.precision, self.batch_tokens = engine.name, engine.precision, engine.batch_tokens
        self.tables, self.describe = engine.tables, engine.describe
        self._engine = engine
        self._known: dict[tuple[bytes, Output], np.ndarray] = {}

    def run(self, batches: Iterable[TokenBatch], output: Output) -> Iterator[tuple[TokenBatch, np.ndarray]]:
        """As `Engine.run` says."""
        for batch in batches:
            key = (batch.token_ids.tobytes(), output)
            if key not in self._known:
                ((_, self._known[key]),) = self._engine.run([batch], output)
            yield batch, self._known[key]


def _search(search: _Search, first: Found) -> Checked:
    """Keeps the layers that hurt most for their size in higher precision, as few as the bound needs.

    Args:
        search: What is looked for.
        first: What all of them in lower precision come to.
    """
    judge, names = search.judge, list(search.sizes)
    with progress("Finding the layers that lose most", len(names), "layers") as bar:
        alone = {}
        for name in names:
            alone[name] = judge.glance(search.engine([name]))
            bar.advance(1)
    none = _loss(judge.glance(search.engine([])))
    hurting = sorted(names, key=lambda name: (_loss(alone[name]) - none) / search.sizes[name], reverse=True)
    fewest, most, good = 1, len(hurting) - 1, None
    while fewest <= most:  # what holds with some layers kept holds with more
        count = (fewest + most) // 2
        engine = search.engine(hurting[count:])
        found = judge.found(engine)
        if judge.holds(found):
            good, most = search.checked(engine, found, hurting[:count]), count - 1
        else:
            fewest = count + 1
    if good is not None:
        return _taken_back(search, good)
    worst = max(names, key=lambda name: _loss(alone[name]))
    precision, instead = search.precision, "bf16 or float32" if search.rounded else "float32"
    raise BothwaysError(
        f"{judge.model.name} in {precision} does not stay within the bound ({judge.asked()}): all layers in "
        f"{precision} are {judge.said(first)}, and {worst}, which loses most, alone {said(alone[worst])}; use {instead}"
    )


def _taken_back(search: _Search, good: Checked) -> Checked:
    """Of the layers that were kept, those that need not be: the bound holds in int8, too, once others are kept."""
    for name in reversed(good.kept[:-1]):  # without the last one it did not hold
        kept = [other for other in good.kept if other != name]
        engine = search.engine(search.sizes.keys() - set(kept))
        found = search.judge.found(engine)
        if search.judge.holds(found):
            good = search.checked(engine, found, kept)
    return good


def _rounded(model: Runner, parts: Parts, texts: Sequence[str]) -> dict[str, Rounded]:
    if not can_int8():
        raise BothwaysError("this processor, or this torch, has no fast int8 products; use float32 or bf16")
    wanted = layers(parts.encoder)
    if not wanted:
        raise BothwaysError(f"no layer of {model.name} can be computed in int8 yet; use float32 or bf16")
    some = [*texts[::2], *real_texts(model.max_length, others=True)]
    encoded = model.tokenizer.encode(some, None, max_length=model.max_length, truncation="head")
    return calibrate(parts, encoded.batches(_CALIBRATION_TOKENS), wanted)


def _loss(check: dict[str, Any]) -> float:
    """How much is lost of decisions, or of cosines; between equals the hidden states decide."""
    lost = [max(1 - found.get("mean_cosine", 1.0), 1 - found.get("equal", 1.0)) for found in judged(check).values()]
    return float(max(lost) + 1e-3 * (1 - check[HIDDEN]["mean_cosine"]))
