"""The optimizers, AdamW and Muon, and their learning rate.

AdamW: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization". Muon: Jordan et al. 2024, "Muon: An
optimizer for hidden layers in neural networks", with the scale of Liu et al. 2025, "Muon is Scalable for LLM Training",
which makes its rates mean what AdamW's do. The schedule is BERT's (Devlin et al. 2018, appendix A.2): linear warm-up,
then linear decay to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.settings import LoopSettings
from bothways.model.parts.stack import Stack


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


def make_optimizer(model: nn.Module, settings: LoopSettings) -> torch.optim.Optimizer:
    """The optimizer that the settings name, over the trainable parameters.

    Raises:
        BothwaysError: No parameter is trainable.
    """
    groups = parameter_groups(model, settings.weight_decay)
    if not groups:
        raise BothwaysError("the model has no parameter that may change: unfreeze the encoder or add a head")
    if settings.optimizer == "adamw":
        return _adamw(groups, settings)
    hidden = hidden_matrices(model)
    chosen = {id(parameter) for parameter in hidden}
    for group in groups:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in chosen]
    rest = [group for group in groups if group["params"]]
    parts = [_adamw(rest, settings)] if rest else []
    return Several([_muon(hidden, settings), *parts] if hidden else parts)


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


def _muon(matrices: list[nn.Parameter], settings: LoopSettings) -> torch.optim.Optimizer:
    """Muon, its updates as large as AdamW's are."""
    decay = settings.weight_decay
    return torch.optim.Muon(
        matrices, lr=settings.learning_rate, weight_decay=decay, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )


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
    length = float(norm)
    if length > longest:
        nn.utils.clip_grads_with_norm_(parameters, longest, norm)
    return length


def set_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Sets the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = value
