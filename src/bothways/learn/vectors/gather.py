"""The texts that a step holds in all processes, so that negatives come from everywhere.

Each process runs its own texts through the encoder; then all have the rows of all, and each computes the losses of the
whole step. Gradients flow to a process's own rows alone: added up over the processes, the gradients of the parameters
are those of one process with all texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from torch.nn import functional

from bothways.learn.objectives.protocol import Loss
from bothways.learn.processes import here


def gather(rows: Tensor, beside: Mapping[str, np.ndarray]) -> tuple[Tensor, list[dict[str, np.ndarray]]]:
    """The rows of all processes, one process after the other, with what stands beside them.

    All have to ask, or to `attend`.

    Args:
        rows: ``(N, ...)`` float32, those of this process.
        beside: Whole numbers by name.

    Returns:
        The rows, with gradients to this process's own, and what each process has beside its own; a process without any
        is left out.
    """
    if here().alone:
        return rows, [dict(beside)]
    numbers = {name: values.tolist() for name, values in beside.items()}
    every: list[Any] = here().gathered({"shape": list(rows.shape), "beside": numbers})
    found = _rows(rows, every)
    there = [each["beside"] for each in every if each is not None]
    return found, [{name: np.array(values, dtype=np.int64) for name, values in each.items()} for each in there]


def attend(device: torch.device) -> None:
    """What a process does that has nothing in a step, while the others gather."""
    every: list[Any] = here().gathered(None)
    shape = next(each["shape"] for each in every if each is not None)
    _rows(torch.zeros(0, *shape[1:], device=device), every)


def _rows(own: Tensor, every: list[Any]) -> Tensor:
    counts = [0 if each is None else each["shape"][0] for each in every]
    missing = max(counts) - len(own)
    filled = functional.pad(own.detach(), (0, 0) * (own.dim() - 1) + (0, missing))  # all send equally many
    parts = [torch.empty_like(filled) for _ in counts]
    distributed.all_gather(parts, filled.contiguous())
    parts = [part[:count] for part, count in zip(parts, counts, strict=True)]
    parts[here().rank] = own
    return torch.cat(parts)


def part_of(loss: Loss, own: int, whole: int) -> Loss:
    """A loss over all groups of a step as this process's part of it: its value is that part, its gradient the whole's.

    Args:
        loss: The sum over all groups, whose gradient reaches only what is this process's own.
        own: The groups of this process.
        whole: All.
    """
    if own == whole:
        return loss
    share = own / whole
    hits = None if loss.hits is None else share * loss.hits
    return Loss(share * loss.total + (1 - share) * (loss.total - loss.total.detach()), hits)
