"""8-bit graphs that stay within a bound: the layers that lose most keep their weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.run.engines.onnx import GRAPH, OnnxEngine
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import DENSE, HIDDEN, VECTOR, Output
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.exporting.quantize import products, quantize
from bothways.run.guard import Judge
from bothways.run.runner import Runner

_SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Of the layers, how many keep their weights, one share after the other."""
_SOME, _TOKENS = 4, 512


def quantize_within(judge: Judge, parts: Parts, source: Path, folder: Path, *, reduce_range: bool) -> list[str]:
    """Writes an 8-bit graph whose outputs stay within a bound.

    Layers are ranked by what rounding does to their own products, and the first of them keep float32 weights.

    Args:
        judge: Compares with the model.
        parts: Its modules.
        source: The float32 graph.
        folder: Where the graph is written.
        reduce_range: As `quantize` has it.

    Returns:
        The layers that kept their weights, those that lose most first.

    Raises:
        BothwaysError: The bound does not hold with half of the layers either; the worst layer is named.
    """
    model = judge.model
    lost = losses(model, parts, judge.texts[1::_SOME])
    order = sorted(products(source), key=lambda name: -lost.get(name, 0.0))
    for share in _SHARES:
        kept = order[: round(share * len(order))]
        quantize(source, folder / GRAPH, reduce_range=reduce_range, kept=kept)
        found = judge.found(OnnxEngine(folder, model.config.embeddings.pad_id, "int8"))
        if judge.holds(found):
            return kept
    raise BothwaysError(
        f"{model.name} in int8 is beyond the bound ({judge.asked()}) even with half of its layers in float32: it is "
        f"{judge.said(found)}; {order[0]} loses most; export it in float32, or allow more: worst_cosine, "
        "equal_decisions, or the loss of a metric"
    )


def losses(model: Runner, parts: Parts, texts: Sequence[str]) -> dict[str, float]:
    """For each linear layer the share of its products' energy that rounding to 8 bits takes.

    Args:
        model: Its tokenizer.
        parts: The modules.
        texts: What goes through them.
    """
    encoded = model.tokenizer.encode(list(texts), None, max_length=model.max_length, truncation="head")
    engine = ReferenceEngine(parts, "float32")
    outputs = [Output(kind) for kind in parts.heads if kind not in ("crf", "mlm", DENSE)] or [Output(HIDDEN)]
    if DENSE in parts.heads:
        outputs.append(Output(VECTOR, model.sentence.pooling, dense=True))
    if "mlm" in parts.heads:
        outputs.append(Output("mlm", token=int(encoded.token_ids[-1])))
    with _watched(parts) as found:
        for output in outputs:
            for _ in engine.run(encoded.batches(_TOKENS), output):
                pass
    return {name: noise / max(energy, 1e-30) for name, (noise, energy) in found.items()}


@contextmanager
def _watched(parts: Parts) -> Iterator[dict[str, list[float]]]:
    """Adds up, for each linear layer that runs in the block, the energy of its rounding errors and of its products."""
    found: dict[str, list[float]] = {}
    handles = []
    for place, part in (("encoder", parts.encoder), *((f"heads.{kind}", head) for kind, head in parts.heads.items())):
        for name, layer in part.named_modules():
            if isinstance(layer, nn.Linear):
                sums = found[f"{place}.{name}"] = [0.0, 0.0]
                handles.append(layer.register_forward_hook(_adding(sums, layer)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _adding(sums: list[float], layer: nn.Linear) -> Any:
    scales = layer.weight.detach().abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    rounded = (layer.weight.detach() / scales).round() * scales

    def add(_: nn.Module, given: tuple[Tensor], __: Tensor) -> None:
        x = given[0]
        low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
        step = ((high - low) / 255).clamp(min=1e-12)
        right = torch.nn.functional.linear(x, layer.weight)
        noise = torch.nn.functional.linear((x / step).round() * step, rounded) - right
        sums[0] += float(noise.square().sum())
        sums[1] += float(right.square().sum())

    return add
