"""The guard against NaN and infinity: it names the step and the first layer.

Checking costs nothing, because the loss and the length of the gradient are known after every step anyway. Only when
one is not finite the step is run again, the same to the bit, with an eye on every module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.parts import part
from bothways.learn.tally import Tally


def all_finite(tally: Tally, norm: float) -> bool:
    """Whether a step's sums and the length of its gradient are numbers one can learn from."""
    return math.isfinite(norm) and all(math.isfinite(value) for value in tally.sums.values())


def not_finite(
    model: nn.Module, tally: Tally, norm: float, step: int, again: Callable[[], object], advice: str
) -> BothwaysError:
    """The sentence about a step that `all_finite` refuses.

    Args:
        model: The model, its weights as they were in the step.
        tally: The step's sums.
        norm: The length of its gradient.
        step: Its number, from 1.
        again: Runs its forward and backward passes again, the same to the bit.
        advice: What to do, the end of the sentence.
    """
    wrong = {name: value for name, value in tally.sums.items() if not math.isfinite(value)}
    name, value = next(iter(wrong.items()), ("the length of the gradient", norm))
    return BothwaysError(f"step {step}: {name} is {value}; {first_not_finite(model, again)}; {advice}")


def first_not_finite(model: nn.Module, again: Callable[[], object]) -> str:
    """Names the first module, in the order of the forward pass, whose output is not finite, in words."""
    found: list[str] = []

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not found and not all(torch.isfinite(part(tensor)).all() for tensor in _tensors(output)):
                ill = next(
                    (kind for kind, tensor in module.named_parameters() if not torch.isfinite(part(tensor)).all()), ""
                )
                found.append(f"{name or 'the whole model'}" + (f" (its {ill} is not finite)" if ill else ""))

        return hook

    hooks = [module.register_forward_hook(watch(name)) for name, module in model.named_modules()]
    try:
        model.zero_grad()
        again()
    finally:
        for hook in hooks:
            hook.remove()
    if found:
        return f"the first layer whose output is not finite is {found[0]}"
    # Gradients travel backwards, so the last parameter is the first that a broken one reaches.
    broken = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and not torch.isfinite(part(parameter.grad)).all()
    ]
    if broken:
        return f"all layers' outputs are finite, but not the gradient of {broken[-1]}"
    return "all layers' outputs and gradients are finite, so the sum of them overflowed"


def _tensors(output: Any) -> Iterator[Tensor]:
    """The floating-point tensors in what a module returned."""
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))
