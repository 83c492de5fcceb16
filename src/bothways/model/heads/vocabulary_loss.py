"""Cross-entropy over a large vocabulary without float32 copies of all logits; see `vocabulary_rows`.

Where classes are to be drawn as well, as ELECTRA's generator does, they are drawn from the same few rows.

Shapes: M positions, V vocabulary, D width; R positions that are looked at together.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from bothways.model.heads.vocabulary_rows import Logits, rows_loss


class Guesses(NamedTuple):
    """What came of guessing a class at each of M positions.

    Attributes:
        total: The sum of the cross-entropies, a float32 scalar; it alone carries a gradient.
        hits: How many labels had the highest logit, a float32 scalar.
        losses: ``(M,)`` the cross-entropies, float32.
        right: ``(M,)`` whether the label had the highest logit.
        drawn: ``(M,)`` the classes drawn, integers; nothing of meaning where none were to be drawn.
    """

    total: Tensor
    hits: Tensor
    losses: Tensor
    right: Tensor
    drawn: Tensor


def vocabulary_loss(hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the cross-entropies of softmax(hidden · tableᵀ + bias) against the labels.

    Args:
        hidden_MD: ``(M, D)``.
        table_VD: ``(V, D)``, one row a class.
        bias_V: ``(V,)``.
        labels_M: ``(M,)`` integers below V.

    Returns:
        The loss, a float32 scalar with gradients for the first three, and the number of labels that had the highest
        logit, a float32 scalar without.
    """
    return vocabulary_guesses(hidden_MD, table_VD, bias_V, labels_M)[:2]


def vocabulary_guesses(
    hidden_MD: Tensor, table_VD: Tensor, bias_V: Tensor, labels_M: Tensor, draws_M: Tensor | None = None
) -> Guesses:
    """The same, position by position too, and where it is asked for a class drawn with the softmax's probabilities.

    Args:
        hidden_MD: ``(M, D)``.
        table_VD: ``(V, D)``, one row a class.
        bias_V: ``(V,)``.
        labels_M: ``(M,)`` integers below V.
        draws_M: ``(M,)`` uniform random numbers of at least 0 and below 1, float32; each decides one class.
    """
    drawn_M = torch.empty_like(labels_M)

    def judge(place: slice, rows_RV: Tensor, _: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        labels_R1 = labels_M[place, None]
        highest, own = rows_RV.amax(dim=-1, keepdim=True), rows_RV.gather(1, labels_R1)
        shares_RV = torch.softmax(rows_RV, dim=-1)
        # The largest share is exp(highest - log of the sum), and never too small for its logarithm.
        losses_R1 = highest - own - shares_RV.amax(dim=-1, keepdim=True).log()
        if draws_M is not None:
            drawn_M[place] = _drawn(shares_RV, draws_M[place])
        shares_RV.scatter_add_(1, labels_R1, torch.full_like(own, -1.0))  # the gradient by now
        return losses_R1.squeeze(1), (own >= highest).squeeze(1), shares_RV

    total, losses_M, right_M = rows_loss(Logits(hidden_MD, table_VD, bias_V), judge)
    return Guesses(total, right_M.sum(dtype=torch.float32), losses_M, right_M, drawn_M)


def _drawn(shares_RV: Tensor, draws_R: Tensor) -> Tensor:
    """The class that each number falls on, where classes lie side by side, each as wide as its share."""
    ends_RV = shares_RV.cumsum(-1)
    aims_R1 = draws_R[:, None] * ends_RV[:, -1:]  # rounded, shares need not add up to 1
    return torch.searchsorted(ends_RV, aims_R1, right=True).squeeze(1).clamp_(max=shares_RV.shape[1] - 1)
