"""Entailment: a linear classifier over (u, v, |u - v|), which is thrown away afterwards.

Reimers and Gurevych 2019, "Sentence-BERT", section 3 (classification objective function), as on SNLI and MultiNLI.

Shapes: G pairs, E width of a vector, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.learn.vectors.data import VectorData
from bothways.learn.vectors.step import Mean, Step

_MOST = 50
"""Classes: where numbers are more than that, they are scores."""


@dataclass(frozen=True)
class Softmax:
    """Cross-entropy over the classes of pairs.

    Attributes:
        classes: Their names, in order.
    """

    classes: tuple[str, ...] = ()
    name = "softmax"
    needs = "pairs of texts with a label each, such as entailment, neutral and contradiction"
    forms = ("labelled", "scored")
    meets = False
    guesses = True

    def right(self, data: VectorData) -> np.ndarray:
        """The number of each label."""
        place = {name: number for number, name in enumerate(self.classes)}
        return np.array([place[name] for name in data.truths()], dtype=np.int64)

    def module(self, width: int) -> nn.Module:
        """The classifier, from ``(G, 3 E)`` to ``(G, C)``."""
        return nn.Linear(3 * width, len(self.classes))

    def loss(self, step: Step, module: nn.Module | None) -> Mean:
        """The mean over the pairs."""
        assert module is not None
        assert step.right is not None
        u_GE, v_GE = step.first, step.second
        logits_GC = module(torch.cat([u_GE, v_GE, (u_GE - v_GE).abs()], dim=1)).float()
        right = (logits_GC.detach().argmax(1) == step.right).float().mean()
        return Mean(functional.cross_entropy(logits_GC, step.right), right)


def classes_of(data: VectorData) -> tuple[str, ...]:
    """The classes of labelled pairs.

    Raises:
        BothwaysError: There is one only, or the labels are scores.
    """
    found = tuple(sorted(set(data.truths())))
    if len(found) < 2:
        raise BothwaysError(f"{data.name} has the label {found[0]!r} everywhere; there is nothing to learn from")
    if len(found) > _MOST or (data.form == "scored" and any("." in name for name in found)):
        raise BothwaysError(
            f"the loss softmax learns classes of pairs, but {data.name} has {len(found)} different scores; use --loss "
            "cosent or cosine for them"
        )
    return found
