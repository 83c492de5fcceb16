"""Losses of a query's texts, compared with each other.

Each takes ``(Q, C)`` scores and relevance of C texts of Q queries, and ``(Q, C)`` which of them there are, and gives
``(Q,)`` float32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bothways.learn.tasks.guessing import NEVER

RankingLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


def softmax_loss(scores_QC: Tensor, relevance_QC: Tensor, there_QC: Tensor) -> Tensor:
    """Cross-entropy against relevance scaled to a sum of 1.

    With one relevant text among sampled ones it is the localized contrastive estimation of Gao, Dai and Callan 2021,
    "Rethink Training of BERT Rerankers in Multi-Stage Retrieval Pipeline", section 3.
    """
    gains = relevance_QC.clamp(min=0) * there_QC
    return _cross_entropy(scores_QC, gains / gains.sum(-1, keepdim=True).clamp(min=1e-12), there_QC)


def listnet_loss(scores_QC: Tensor, relevance_QC: Tensor, there_QC: Tensor) -> Tensor:
    """Cross-entropy between the probabilities of being first that relevance and scores give.

    Cao, Qin, Liu, Tsai and Li 2007, "Learning to Rank: From Pairwise Approach to Listwise Approach", section 4.
    """
    return _cross_entropy(scores_QC, relevance_QC.masked_fill(~there_QC, NEVER).softmax(-1), there_QC)


def lambda_loss(scores_QC: Tensor, relevance_QC: Tensor, there_QC: Tensor) -> Tensor:
    """Logistic loss of each pair in the wrong order, weighted by what swapping the two changes in nDCG.

    Burges, Ragno and Le 2006, "Learning to Rank with Nonsmooth Cost Functions" (LambdaRank); as a loss: Wang, Li,
    Golbandi, Bendersky and Najork 2018, "The LambdaLoss Framework for Ranking Metric Optimization", section 4.
    """
    scores, gains = scores_QC.float(), torch.exp2(relevance_QC) - 1
    gains = gains.masked_fill(~there_QC, 0.0)
    places = torch.arange(scores.shape[1], device=scores.device)
    order = scores.detach().masked_fill(~there_QC, NEVER).argsort(dim=-1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, places.expand_as(order))
    discounts = 1 / torch.log2(ranks + 2.0)
    best = (gains.sort(dim=-1, descending=True).values / torch.log2(places + 2.0)).sum(-1).clamp(min=1e-12)
    weights = (_differences(gains) * _differences(discounts)).abs() / best[:, None, None]
    ordered = (_differences(relevance_QC) > 0) & there_QC[:, :, None] & there_QC[:, None, :]
    return (weights * functional.softplus(-_differences(scores)) * ordered).sum((1, 2))


def _differences(values_QC: Tensor) -> Tensor:
    """``(Q, C, C)``: of each text from each other."""
    return values_QC[:, :, None] - values_QC[:, None, :]


def _cross_entropy(scores_QC: Tensor, shares_QC: Tensor, there_QC: Tensor) -> Tensor:
    logs = functional.log_softmax(scores_QC.float().masked_fill(~there_QC, NEVER), -1)
    return -(shares_QC * logs.masked_fill(~there_QC, 0.0)).sum(-1)


LOSSES: dict[str, RankingLoss] = {"softmax": softmax_loss, "listnet": listnet_loss, "lambda": lambda_loss}
"""Those that compare the texts of a query, by the name under which they are asked for."""
