"""AdamW and its learning rate.

Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization"; the schedule is BERT's (Devlin et al. 2018,
appendix A.2): linear warm-up, then linear decay to zero.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

from bothways.errors import BothwaysError
from bothways.learn.settings import LoopSettings


def rate(step: int, steps: int, warmup: int) -> float:
    """The share of the highest learning rate at a step, a pure function.

    Args:
        step: Steps taken before this one, from 0.
        steps: Steps of the whole run.
        warmup: Steps of warm-up.

    Returns:
        Rising by ``1 / (warmup + 1)`` a step, 1 after the warm-up, then falling evenly so that it would be 0 one step
        after the last. No step is wasted at rate 0.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return max(0.0, (steps - step) / max(1, steps - warmup))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trainable parameters, each once: matrices with weight decay; biases and norms (all vectors) without."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in parameters if parameter.ndim >= 2], "weight_decay": weight_decay},
        {"params": [parameter for parameter in parameters if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def make_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, fused where the device has such a kernel.

    Raises:
        BothwaysError: No parameter is trainable.
    """
    groups = parameter_groups(model, settings.weight_decay)
    if not groups:
        raise BothwaysError("the model has no parameter that may change: unfreeze the encoder or add a head")
    make = partial(torch.optim.AdamW, lr=settings.learning_rate, betas=settings.betas, eps=settings.eps)
    try:
        return make(groups, fused=True)
    except RuntimeError:  # the device or the parameters' type has no fused kernel
        return make(groups)


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
