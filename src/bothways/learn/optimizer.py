"""The optimizers, AdamW and Muon, and their learning rate.

AdamW: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization". Muon: `bothways.learn.muon`. The usual
schedule is BERT's (Devlin et al. 2018, appendix A.2): linear warm-up, then linear decay to zero. The cosine is that of
Loshchilov and Hutter 2017, "SGDR", equation 5, run once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.levels import levels
from bothways.learn.muon import Muon
from bothways.learn.parts import whole
from bothways.learn.settings import LoopSettings
from bothways.model.encoder import Encoder
from bothways.model.parts.stack import Stack


def rate(step: int, steps: int, warmup: int, schedule: str = "linear") -> float:
    """The share of the highest learning rate at a step, a pure function.

    Args:
        step: Steps taken before this one, from 0.
        steps: Steps of the whole run.
        warmup: Steps of warm-up.
        schedule: How it goes on after the warm-up: ``"linear"``, ``"cosine"`` or ``"constant"``.

    Returns:
        Rising by ``1 / (warmup + 1)`` a step, 1 after the warm-up; then staying there, or falling evenly or along half
        a cosine so that it would be 0 one step after the last. No step is wasted at rate 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if schedule == "constant":
        return 1.0
    left = max(0.0, (steps - step) / max(1, steps - warmup))
    return left if schedule == "linear" else (1 - math.cos(math.pi * left)) / 2


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0, head_rate: float | None = None
) -> list[dict]:
    """The trainable parameters, each once: matrices with weight decay; biases and norms (all vectors) without.

    Each group also says its ``scale``, the share that it has of the rate.
    """
    scales = rate_scales(model, layer_decay, head_rate)
    groups: dict[tuple[float, bool], dict] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            scale, vector = scales.get(id(parameter), 1.0), parameter.ndim < 2
            made = {"params": [], "weight_decay": 0.0 if vector else weight_decay, "scale": scale}
            groups.setdefault((-scale, vector), made)["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def rate_scales(model: nn.Module, layer_decay: float, head_rate: float | None = None) -> dict[int, float]:
    """The share of the rate that parameters have, by their ids; what is not there has the full rate.

    Layer-wise decay as Clark et al. 2020 (ELECTRA, appendix B) use it, after Howard and Ruder 2018 (ULMFiT, section
    3.2): heads and pooler learn at the full rate, the last of L layers at `layer_decay` of it, each layer below at
    `layer_decay` of that above it, the embeddings at its power L + 1. A block that several layers share has the mean of
    what its layers would have. What lies in no encoder, the heads, has `head_rate` times the rate.
    """
    scales: dict[int, float] = {}
    encoders = [part for part in model.modules() if isinstance(part, Encoder)]
    if head_rate is not None:
        inside = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
        scales = {id(parameter): head_rate for parameter in model.parameters() if id(parameter) not in inside}
    for encoder in encoders if layer_decay < 1 else ():
        top = len(encoder.stack.schedule) + 1
        for part, at in levels(encoder):
            scale = sum(layer_decay ** (top - level) for level in at) / len(at)
            scales |= {id(parameter): scale for parameter in part.parameters()}
    return scales


def make_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over the trainable parameters.

    Raises:
        BothwaysError: No parameter is trainable.
    """
    groups = parameter_groups(model, settings.weight_decay, settings.layer_decay, settings.head_rate)
    if not groups:
        raise BothwaysError("the model has no parameter that may change: unfreeze the encoder or add a head")
    if settings.optimizer == "adamw":
        return _adamw(groups, settings)
    chosen = {id(parameter) for parameter in hidden_matrices(model)}
    hidden, rest = _parted(groups, chosen)
    parts = [_adamw(rest, settings)] if rest else []
    return Several([Muon(hidden, settings.learning_rate), *parts] if hidden else parts)


def _parted(groups: list[dict], chosen: set[int]) -> tuple[list[dict], list[dict]]:
    """The same groups of the parameters with some ids, and of the others; without those that are empty."""
    parts = [
        [group | {"params": [each for each in group["params"] if (id(each) in chosen) is wanted]} for group in groups]
        for wanted in (True, False)
    ]
    hidden, rest = ([group for group in part if group["params"]] for part in parts)
    return hidden, rest


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The trainable weights of the linear layers between embeddings and heads, each once."""
    stacks = (stack for stack in model.modules() if isinstance(stack, Stack))
    layers = (part for stack in stacks for part in stack.modules() if isinstance(part, nn.Linear))
    weights = (cast(nn.Parameter, layer.weight) for layer in layers)
    return list(dict.fromkeys(weight for weight in weights if weight.requires_grad))


def _adamw(groups: list[dict], settings: LoopSettings) -> torch.optim.Optimizer:
    """AdamW, fused where the device has such a kernel."""
    make = partial(torch.optim.AdamW, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)
    try:
        return make(groups, fused=True)
    except RuntimeError:  # the device or the parameters' type has no fused kernel
        return make(groups)


class Several(torch.optim.Optimizer):
    """Optimizers of different parameters as one, with one state and one list of groups.

    Args:
        parts: Each steps its own groups.
    """

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Makes the parts work on this optimizer's groups and state."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = list(islice(groups, len(part.param_groups)))
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Puts a saved state back, and shares it with the parts."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Changes all parameters."""
        for part in self._parts:
            part.step()


def clip_gradient(model: nn.Module, longest: float) -> float:
    """Shortens the gradient, over all parameters together, to a length; most steps need only be measured.

    Args:
        model: Whose gradients are changed in place.
        longest: The length.

    Returns:
        The length it had.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    norm = nn.utils.get_total_norm(cast(Tensor, parameter.grad) for parameter in parameters)
    length = float(whole(norm))
    if length > longest:
        nn.utils.clip_grads_with_norm_(parameters, longest, norm)
    return length


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all groups, each at its share of it."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get("scale", 1.0)
