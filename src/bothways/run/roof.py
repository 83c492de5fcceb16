"""How fast this machine multiplies: a large product of matrices, timed for a fraction of a second.

Nothing that a network does is faster, so training is measured against it (`bothways.learn.utilisation`). On a processor
the right-hand matrix is brought into the kernel's own layout before the clock starts ("packed"), where torch can do
that: a product of weights that stay the same need not do it again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from bothways.run.precision import Precision

SECONDS = 0.2
"""For which each way of multiplying is timed; the best of its products counts."""
_SIDES = {"cpu": 1024}
"""Rows and columns of the matrices: large enough that moving them takes no time to speak of."""
_SIDE = 8192


def roof(precision: Precision, device: torch.device | None = None) -> float:
    """The operations a second that large products of matrices reach here, measured once a process.

    Args:
        precision: What they are computed in, and on which kind of device; on a processor also ``"int16"`` and
            ``"int8"``.
        device: Which one of its kind; None for the current one.

    Returns:
        Multiplications and additions a second: two for each pair of numbers. Other work on the machine lowers it.
    """
    return _measured(precision.name, device or torch.device(precision.device), torch.get_num_threads())


@cache
def _measured(name: str, device: torch.device, threads: int) -> float:
    side = _SIDES.get(device.type, _SIDE)
    if name in _WHOLE:
        return 2 * side**3 / _seconds(_WHOLE[name](side), device)
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    with torch.inference_mode():
        fastest = min(_seconds(product, device) for product in _products(left, right))
    return 2 * side**3 / fastest


def _int8(side: int) -> Callable[[], Tensor]:
    """A product of levels, as the packed engine's int8 layers have them."""
    from bothways.run.engines.packed.int8 import LEVELS, Int8Linear, plain

    weight = torch.randn(side, side)
    layer = Int8Linear(weight, None, plain(weight), torch.float32)
    levels = layer.levels(torch.randint(0, LEVELS, (side, side)).float())

    def product() -> Tensor:
        with torch.inference_mode():
            return layer.product(levels, None)

    return product


def _int16(side: int) -> Callable[[], Tensor]:
    """A product with a weight in int16; what goes in is rounded each time."""
    from bothways.run.engines.packed.int16 import Int16Linear

    layer, x = Int16Linear(torch.randn(side, side), None, torch.float32), torch.randn(side, side)

    def product() -> Tensor:
        with torch.inference_mode():
            return layer(x)

    return product


_WHOLE = {"int8": _int8, "int16": _int16}
"""Products of whole numbers, by precision."""


def _products(left: Tensor, right: Tensor) -> list[Callable[[], Tensor]]:
    """The ways to multiply two matrices here."""
    from bothways.run.engines.packed.linear import PackedLinear

    ways: list[Callable[[], Tensor]] = [lambda: left @ right]
    if left.device.type == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(right, len(left))
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(left, packed, None, "none", [], ""))
        ours = PackedLinear(right, None, left.dtype)
        ways.append(lambda: ours(left))
    return ways


def _seconds(product: Callable[[], Tensor], device: torch.device) -> float:
    """The shortest time that a product took."""
    times: list[float] = []
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < SECONDS:
        before = time.perf_counter()
        product()
        if device.type != "cpu":  # which begins products and goes on
            torch.accelerator.synchronize(device)
        times.append(time.perf_counter() - before)
    return min(times[1:])  # the first also sets up kernels
