"""Losses over what an encoder gives of a whole step, in memory that does not grow with the step.

Where a step holds more tokens than one pass may, its rows are made part by part without gradients first, the gradients
of the losses with respect to the rows are computed for the whole step, and then each part is run again with the same
dropout masks and gets its share of them: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory
Limited Setup" (GradCache). The gradient is that of one great pass.

Shapes: S texts, T tokens; rows are either's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.learn.objectives.protocol import Loss, sums_of
from bothways.learn.protocol import Item
from bothways.learn.vectors.examples import BUDGET

Represent = Callable[[TokenBatch], Tensor]
"""A row a text ``(S, ...)`` or a row a token ``(T, ...)``, float32, in the order of the batch."""
LossesOf = Callable[[Tensor], dict[str, Loss]]
"""The losses of a step, from its rows."""


def backward_in_parts(
    item: Item, totals: dict[str, int], represent: Represent, losses_of: LossesOf, device: torch.device
) -> dict[str, float]:
    """Adds the gradient of an item to the parameters; in parts where it is too large for one pass.

    Args:
        item: A step, whole.
        totals: The predictions of each loss in the step.
        represent: Runs the model.
        losses_of: What is learned.
        device: Where the model lies, whose dropout is to repeat itself.

    Returns:
        Sums by name, as the loop asks for them.
    """
    parts = list(_parts_of(*item))
    if len(parts) == 1:
        losses = losses_of(represent(item[0]))
        _total(losses, totals).backward()
        return sums_of(losses)
    chances, found = [], []
    with torch.no_grad():
        for part in parts:
            chances.append(_chance_state(device))
            found.append(represent(part))
    torch.clear_autocast_cache()  # what was cast without gradients must not be used again with them
    rows = torch.cat(found).requires_grad_()
    losses = losses_of(rows)
    _total(losses, totals).backward()
    assert rows.grad is not None
    after = _chance_state(device)
    for part, chance, gradient in zip(parts, chances, rows.grad.split(list(map(len, found))), strict=True):
        _set_chance_state(device, chance)
        represent(part).backward(gradient)
    _set_chance_state(device, after)
    return sums_of(losses)


def evaluate_in_parts(item: Item, represent: Represent, losses_of: LossesOf) -> dict[str, float]:
    """The same sums without a gradient."""
    with torch.no_grad():
        return sums_of(losses_of(torch.cat([represent(part) for part in _parts_of(*item)])))


def _parts_of(batch: TokenBatch, targets: dict[str, np.ndarray]) -> Iterator[TokenBatch]:
    """A batch in parts of at most as many tokens as one pass may have, in its order.

    A longer text is a part of its own.
    """
    budget = int(targets[BUDGET]) if BUDGET in targets else batch.tokens
    begin = 0
    while begin < batch.sequences:
        end = int(np.searchsorted(batch.starts, batch.starts[begin] + budget, side="right")) - 1
        end = max(end, begin + 1)
        if begin == 0 and end >= batch.sequences:
            yield batch
            return
        tokens = slice(int(batch.starts[begin]), int(batch.starts[end]))
        yield TokenBatch(
            batch.token_ids[tokens],
            batch.segment_ids[tokens],
            batch.positions[tokens],
            batch.starts[begin : end + 1] - batch.starts[begin],
            np.arange(end - begin),
        )
        begin = end


def _total(losses: dict[str, Loss], totals: dict[str, int]) -> Tensor:
    return torch.stack([loss.total / max(totals[name], 1) for name, loss in losses.items()]).sum()


def _chance_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The states of torch's generators, of the host and of a GPU: what makes dropout repeat itself."""
    there = None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(device)
    return torch.get_rng_state(), there


def _set_chance_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    """Goes back to what `_chance_state` gave."""
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.get_device_module(device).set_rng_state(state[1], device)
