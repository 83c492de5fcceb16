"""Losses of classes: one of several, or several at once; every task that has classes learns by them.

Shapes: N guesses, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Loss


def check_smoothing(label_smoothing: float) -> None:
    """Raises a BothwaysError where label smoothing is no share that leaves the right class the likeliest."""
    if not 0 <= label_smoothing < 1:
        raise BothwaysError(f"label_smoothing must be 0 or more and below 1, not {label_smoothing!r}")


def loss_of_one(
    logits_NC: Tensor,
    labels_N: np.ndarray | Tensor,
    *,
    weights_C: Tensor | None = None,
    focal: float = 0.0,
    smoothing: float = 0.0,
) -> Loss:
    """Cross-entropy where one class holds, summed over the guesses, float32.

    Args:
        logits_NC: ``(N, C)``; -inf for a class that cannot be, such as a choice that there is not.
        labels_N: ``(N,)`` the right class of each.
        weights_C: ``(C,)`` what a guess counts whose right class it is; None: all alike.
        focal: Gamma of the focal loss, ``(1 - p)^gamma`` times the loss (Lin et al. 2017): guesses that are sure
            already count less. 0 is the cross-entropy.
        smoothing: Share of the target that is spread evenly over all classes that can be (Szegedy et al. 2016, section
            7). 0: none.

    Returns:
        The sum, and the number of right guesses.
    """
    right = torch.as_tensor(labels_N, device=logits_NC.device)
    logits_NC = logits_NC.float()
    hits = (logits_NC.detach().argmax(-1) == right).sum(dtype=torch.float32)
    losses = functional.cross_entropy(logits_NC, right, reduction="none")
    sure = (-losses).exp()
    if smoothing:
        possible = torch.isfinite(logits_NC)
        logs = functional.log_softmax(logits_NC, -1).masked_fill(~possible, 0.0)
        losses = (1 - smoothing) * losses - smoothing * logs.sum(-1) / possible.sum(-1)
    if focal:
        losses = (1 - sure).clamp_min(1e-6) ** focal * losses  # the gradient of 0 ** gamma has no bound for gamma < 1
    if weights_C is not None:
        losses = losses * weights_C.to(losses)[right]
    return Loss(losses.sum(), hits)


def loss_of_several(
    logits_NC: Tensor,
    flags_NC: np.ndarray | Tensor,
    *,
    weights_C: Tensor | None = None,
    focal: float = 0.0,
    smoothing: float = 0.0,
) -> Loss:
    """Binary cross-entropy where any number of classes hold: the mean over the classes, summed over the guesses.

    Args:
        logits_NC: ``(N, C)``.
        flags_NC: ``(N, C)`` 1 where a class holds, else 0.
        weights_C: ``(C,)`` what a decision counts where the class holds; where it does not, it counts 1.
        focal: Gamma of the focal loss, as for `loss_of_one`, decision by decision.
        smoothing: Share of the target that is spread evenly over "holds" and "does not".

    Returns:
        The sum, float32, and the number of guesses in which every class was decided right (at one half).
    """
    flags = torch.as_tensor(flags_NC, device=logits_NC.device).float()
    logits_NC = logits_NC.float()
    hits = ((logits_NC.detach() > 0) == flags.bool()).all(-1).sum(dtype=torch.float32)
    wanted = flags * (1 - smoothing) + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits_NC, wanted, reduction="none")
    if focal:
        missed = torch.sigmoid(torch.where(flags.bool(), -logits_NC, logits_NC))
        losses = missed.clamp_min(1e-6) ** focal * losses
    if weights_C is not None:
        losses = losses * torch.where(flags.bool(), weights_C.to(losses), 1.0)
    return Loss(losses.mean(-1).sum(), hits)


def inverse_frequency(counts_C: np.ndarray) -> np.ndarray:
    """``(C,)`` float32 weights of classes that are inversely proportional to how often they occur.

    They are 1 on average over the examples, so that the loss keeps its size; a class that does not occur gets none.

    Args:
        counts_C: ``(C,)`` examples of each class.
    """
    counts = np.asarray(counts_C, dtype=np.float64)
    weights = np.divide(1.0, counts, out=np.zeros_like(counts), where=counts > 0)
    return (weights * counts.sum() / np.count_nonzero(counts)).astype(np.float32)
