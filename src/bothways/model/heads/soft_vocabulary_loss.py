"""How far one softmax over a large vocabulary is from another, without float32 copies of all logits.

The loss of soft targets (Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", section 2): a student's
distribution is compared with its teacher's, both softened by a temperature. With all tokens of a batch compared,
4,096 tokens over 30,000 classes are half a gigabyte of float32 for either; see `vocabulary_rows`.

Shapes: M positions, V vocabulary; R positions that are looked at together.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.model.heads.vocabulary_rows import Logits, rows_loss


def soft_vocabulary_loss(student: Logits, teacher: Logits, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The sum over the positions of temperature² · KL(teacher's softmax ‖ student's), both softened.

    The square keeps the gradients as large as those of hard labels, whatever the temperature. The divergence differs
    from the cross-entropy by the teacher's entropy only, which has no gradient, and is 0 where both agree.

    Args:
        student: Gets gradients.
        teacher: For the same positions and classes, of any width; gets none.
        temperature: What all logits are divided by.

    Returns:
        The loss, a float32 scalar, and at how many positions both have the same highest logit, a float32 scalar
        without gradient.
    """

    def judge(place: slice, rows_RV: Tensor, goals_RV: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        assert goals_RV is not None
        right = rows_RV.argmax(-1) == goals_RV.argmax(-1)
        logs = torch.log_softmax(rows_RV.div_(temperature), dim=-1)
        aimed = torch.log_softmax(goals_RV.div_(temperature), dim=-1)
        shares = aimed.exp()
        losses = aimed.sub_(logs).mul_(shares).sum(-1) * temperature**2
        return losses, right, logs.exp_().sub_(shares).mul_(temperature)

    total, _, right = rows_loss(student, judge, teacher)
    return total, right.sum(dtype=torch.float32)
