"""MiniLM's objective (Wang et al. 2020, "MiniLMv2: Multi-Head Self-Attention Relation Distillation", section 3).

The queries, keys and values of one layer, cut into relation heads, are each related among themselves: softmax(Q · Qᵀ /
√K) and so on. The student's last layer is to have the relations of its teacher's. Relation heads need not be those of
attention, so student and teacher may differ in width and heads. The student's last layer learns nothing behind its
projections; what stands there is left to the tasks that follow, as in the paper.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.objectives.distil.products import relation_loss
from bothways.learn.objectives.distil.shared import Compared, Projections, teacher_of
from bothways.learn.objectives.protocol import Forward, Loss, Targets

_WIDTH = 16
"""Of the paper's relation heads in its teachers: 48 for a width of 768, 64 for one of 1,024."""


@dataclass(frozen=True)
class Relations(Compared):
    """The objective.

    Attributes:
        layer: The teacher's, from 0.
        relation_heads: Into so many queries, keys and values are cut.
    """

    layer: int
    relation_heads: int
    name = "minilm"
    hidden = True

    @property
    def reads(self) -> tuple[int, ...]:
        """The teacher's hidden states that it needs, counted from the embeddings."""
        return (self.layer,)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of the three divergences over the tokens, each a mean over relation heads; float32."""
        ours = Projections(forward).of(forward.encoder.config.layers - 1)
        with torch.no_grad():
            theirs = Projections(teacher_of(forward)).of(self.layer)
        plan = forward.batch.plan
        parts = [relation_loss(self._cut(x), self._cut(taught), plan) for x, taught in zip(ours, theirs, strict=True)]
        return Loss(torch.stack(parts).sum() / self.relation_heads, None)

    def _cut(self, x_THK: Tensor) -> Tensor:
        return x_THK.flatten(1).unflatten(1, (self.relation_heads, -1))


def relation_heads(asked: int | None, student: int, teacher: int) -> int:
    """Into how many heads the widths of both are cut: as asked, or as near to the paper's as divides both.

    Raises:
        BothwaysError: A width is not a multiple of what was asked for.
    """
    if asked is None:
        most = max(1, teacher // _WIDTH)
        return max(heads for heads in range(1, most + 1) if student % heads == teacher % heads == 0)
    for who, width in (("student", student), ("teacher", teacher)):
        if width % asked:
            raise BothwaysError(
                f"the {who} is {width} wide, which is no multiple of {asked} relation heads; leave relation_heads out "
                f"for {relation_heads(None, student, teacher)}"
            )
    return asked
