"""The guard of lower precision: what an engine computes is compared with float32 on real texts, before it is trusted.

Layers that hurt most are kept in higher precision until the bound holds; what was found is plain data that is saved
with the model, so that it is looked for once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

import numpy as np

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.calibrate import calibrate
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.packed.int8 import InputScale, can_int8
from bothways.run.engines.packed.pack import layers
from bothways.run.engines.protocol import HIDDEN, VECTOR, Engine, Output
from bothways.run.exporting.check import compare_engines, real_texts
from bothways.run.runner import Runner

_DECIDING = ("classify", "tag", "answer", "choose")
WORST_COSINE, EQUAL_DECISIONS = 0.999, 0.995
_CALIBRATION_TOKENS = 1024
_SOME = 4
"""Each layer alone is tried on every fourth text only."""


@dataclass(frozen=True)
class Bound:
    """What lower precision must keep, compared with float32.

    Attributes:
        worst_cosine: The least cosine of any vector with its float32 form; of models that give vectors.
        equal_decisions: The least share of equal decisions; of each head.
    """

    worst_cosine: float = WORST_COSINE
    equal_decisions: float = EQUAL_DECISIONS


@dataclass(frozen=True)
class Checked:
    """An engine whose outputs were compared with float32.

    Attributes:
        engine: The engine.
        kept: The layers that stayed in higher precision, those that hurt most first.
        check: For each output how like float32 it is.
    """

    engine: PackedEngine
    kept: tuple[str, ...] = ()
    check: dict[str, Any] = field(default_factory=dict)


def checked(
    model: Runner,
    parts: Parts,
    precision: str,
    bound: Bound | None = None,
    texts: Sequence[str] | None = None,
    threads: int | None = None,
    kept: Iterable[str] | None = None,
) -> Checked:
    """An engine of lower precision that stays within a bound.

    Args:
        model: Whose tokenizer and heads tell what is compared.
        parts: Its modules.
        precision: ``"bf16"`` or ``"int8"``.
        bound: What must hold.
        texts: Real texts of many lengths; English ones that Python brings when not given. int8 is calibrated on every
            second of them.
        threads: Of the engine.
        kept: For int8 the layers that are known to be kept in higher precision; then nothing is searched for.

    Raises:
        BothwaysError: The processor or this torch lacks the precision, or the bound cannot be held; the sentence names
            the layer that hurts most.
    """
    bound = bound or Bound(WORST_COSINE, EQUAL_DECISIONS)
    texts = list(texts or real_texts(model.max_length))
    exact = _Remembered(PackedEngine(parts, "float32", threads))
    if precision == "bf16":
        engine = PackedEngine(parts, "bf16", threads)
        check = compare_engines(model, exact, engine, texts)
        if not holds(check, bound):
            raise BothwaysError(
                f"{model.name} in bf16 is {_said(check)}, beyond the bound ({_asked(bound)}); use float32"
            )
        return Checked(engine, (), check)
    scales = _scales(model, parts, texts)
    if kept is not None:
        used = {name: scale for name, scale in scales.items() if name not in set(kept)}
        return Checked(PackedEngine(parts, "int8", threads, used), tuple(kept))
    return _search(_Search(model, parts, exact, texts, bound, threads, scales))


@dataclass(frozen=True)
class _Search:
    model: Runner
    parts: Parts
    exact: _Remembered
    texts: list[str]
    bound: Bound
    threads: int | None
    scales: dict[str, InputScale]

    def tried(self, names: Iterable[str], texts: Sequence[str] | None = None) -> Checked:
        """With so many layers in int8."""
        used = {name: self.scales[name] for name in names}
        engine = PackedEngine(self.parts, "int8", self.threads, used)
        check = compare_engines(self.model, self.exact, engine, texts or self.texts)
        return Checked(engine, tuple(name for name in self.scales if name not in used), check)


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


def _search(search: _Search) -> Checked:
    """Keeps the layers that hurt most in higher precision, one more each time, until the bound holds."""
    found = search.tried(search.scales)
    if holds(found.check, search.bound):
        return found
    some = search.texts[1::_SOME]
    alone = {name: search.tried([name], some).check for name in search.scales}
    hurting = sorted(search.scales, key=lambda name: _loss(alone[name]), reverse=True)
    for count in range(1, len(hurting)):
        found = search.tried([name for name in search.scales if name not in hurting[:count]])
        if holds(found.check, search.bound):
            return Checked(found.engine, tuple(hurting[:count]), found.check)
    worst = hurting[0]
    raise BothwaysError(
        f"{search.model.name} in int8 does not stay within the bound ({_asked(search.bound)}): {worst} alone is "
        f"{_said(alone[worst])}; use bf16 or float32"
    )


def _scales(model: Runner, parts: Parts, texts: Sequence[str]) -> dict[str, InputScale]:
    if not can_int8():
        raise BothwaysError("this processor, or this torch, has no fast int8 products; use float32 or bf16")
    wanted = layers(parts.encoder)
    if not wanted:
        raise BothwaysError(f"no layer of {model.name} can be computed in int8 yet; use float32 or bf16")
    encoded = model.tokenizer.encode(list(texts[::2]), None, max_length=model.max_length, truncation="head")
    return calibrate(parts, encoded.batches(_CALIBRATION_TOKENS), wanted)


def _judged(check: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The outputs that a model is used for: what it was fine-tuned to decide, or its vectors."""
    return {kind: check[kind] for kind in _DECIDING if "equal" in check.get(kind, ())} or {VECTOR: check[VECTOR]}


def holds(check: dict[str, Any], bound: Bound) -> bool:
    """Whether what a model is used for stays within a bound, by what `compare_engines` found."""
    return all(
        found.get("worst_cosine", inf) >= bound.worst_cosine and found.get("equal", inf) >= bound.equal_decisions
        for found in _judged(check).values()
    )


def _loss(check: dict[str, Any]) -> float:
    """How much a layer hurts: what is lost of decisions, or of cosines; between equals the hidden states decide."""
    lost = max(
        max(1 - found.get("worst_cosine", 1.0), 1 - found.get("equal", 1.0)) for found in _judged(check).values()
    )
    return float(lost + 1e-3 * (1 - check[HIDDEN]["mean_cosine"]))


def _said(check: dict[str, Any]) -> str:
    parts = [f"as like as {check[VECTOR]['worst_cosine']:.5f} in its worst vector's cosine"]
    parts += [f"{found['equal']:.2%} equal in {kind}" for kind, found in check.items() if _decides(found)]
    return ", ".join(parts)


def _decides(found: Any) -> bool:
    return isinstance(found, dict) and "equal" in found


def _asked(bound: Bound) -> str:
    return f"worst cosine {bound.worst_cosine}, {bound.equal_decisions:.1%} equal decisions"
