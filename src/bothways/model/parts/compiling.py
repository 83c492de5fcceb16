"""What follows attention in a block, compiled for a GPU: norms, sums, dropout and activation join the products.

Ansel et al. 2024, "PyTorch 2". On processors it does not pay (docs/pretraining.md), and nobody needs it: where torch
has no compiler for a device, or it fails, the same is computed as it is. ``TORCHDYNAMO_DISABLE=1`` is torch's own
switch.

Shapes: T tokens, D model width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

_BACKEND = "inductor"


def after_attention(block: Any, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
    """`PostNormBlock.after_attention` of a block in training, ``(T, D)``, compiled where that pays."""
    if not pays(x_TD.device):
        return _plain(block, x_TD, mixed_TD)
    try:
        return _compiled()(block, x_TD, mixed_TD)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compilers fail in many ways
        warnings.warn(f"torch could not compile the layers, which run as they are: {error}", stacklevel=2)
        _Failed.here = True
        return _plain(block, x_TD, mixed_TD)


def pays(device: torch.device) -> bool:
    """Whether layers are compiled on a device: a GPU with torch's compiler for it, which has not failed."""
    return device.type == "cuda" and not _Failed.here and _has_compiler()


@lru_cache(maxsize=1)
def _has_compiler() -> bool:
    """Kept, for it is asked in every layer of every step, and looks through folders."""
    return find_spec("triton") is not None


class _Failed:
    here = False


def _plain(block: Any, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
    after: Tensor = block.after_attention(x_TD, mixed_TD)
    return after


@lru_cache(maxsize=1)
def _compiled() -> Callable[[Any, Tensor, Tensor], Tensor]:
    """For all blocks and any number of tokens."""
    return torch.compile(_plain, dynamic=True, backend=_BACKEND)
