"""How far two sets of logits are apart."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def symmetric_divergence(one_NC: Tensor, other_NC: Tensor) -> Tensor:
    """The mean of both Kullback-Leibler divergences between ``(N, C)`` logits, summed over the N rows, float32."""
    one, other = (functional.log_softmax(logits.float(), -1) for logits in (one_NC, other_NC))
    return ((one.exp() - other.exp()) * (one - other)).sum() / 2


def symmetric_bernoulli(one_NC: Tensor, other_NC: Tensor) -> Tensor:
    """The same where each of the C classes is decided by itself: the mean over classes, summed over the N rows."""
    one, other = one_NC.float(), other_NC.float()
    return ((one.sigmoid() - other.sigmoid()) * (one - other)).mean(-1).sum() / 2


def squared_distance(one_NC: Tensor, other_NC: Tensor) -> Tensor:
    """The squared differences of ``(N, C)`` numbers, summed, float32."""
    return (one_NC.float() - other_NC.float()).square().sum()
