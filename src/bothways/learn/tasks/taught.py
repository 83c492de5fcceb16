"""Learning from another classifier's answers: its probabilities say more of a text than one right class does.

Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.

Shapes: N texts, S sequences, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.learn.objectives.protocol import Loss
from bothways.learn.tasks.labelled import LabelledTexts
from bothways.progress import progress
from bothways.run.answering.classify import class_logits
from bothways.run.model import Model

_AT_ONCE = 1024
"""Texts the teacher is asked about between two words of its progress."""


@dataclass(frozen=True)
class Taught:
    """What a teacher said, and how much it counts.

    Attributes:
        logits: ``(N, C)`` float32, in the order of the student's classes.
        share: Of the loss that is the teacher's; the rest is that of the labels.
        temperature: By which the logits of both are divided.
        problem: ``"one"`` class a text, or ``"several"`` labels.
    """

    logits: np.ndarray
    share: float
    temperature: float
    problem: str

    def of(self, texts_S: np.ndarray) -> np.ndarray:
        """``(S, C)`` of some texts by their numbers; those of pairs that are read in both orders count on behind N."""
        found: np.ndarray = self.logits[texts_S % len(self.logits)]
        return found

    def with_labels(self, learned: Loss, logits_SC: Tensor, taught_SC: np.ndarray | Tensor) -> Loss:
        """The loss of labels and that of the teacher's answers, each with its share.

        Args:
            learned: The loss of the labels: a sum.
            logits_SC: The student's.
            taught_SC: The teacher's.

        Returns:
            Their sum, float32: the cross-entropy with the teacher's softened probabilities, times the squared
            temperature, so that its gradient keeps its size; where several labels may hold, its mean over the labels.
        """
        wanted = torch.as_tensor(taught_SC, device=logits_SC.device).float() / self.temperature
        found = logits_SC.float() / self.temperature
        if self.problem == "one":
            soft = functional.cross_entropy(found, wanted.softmax(-1), reduction="sum")
        else:
            apart = functional.binary_cross_entropy_with_logits(found, wanted.sigmoid(), reduction="none")
            soft = apart.mean(-1).sum()
        total = (1 - self.share) * learned.total + self.share * self.temperature**2 * soft
        return Loss(total, learned.hits)


def check_taught(share: float, temperature: float) -> None:
    """Raises a BothwaysError where the teacher's share is none, or a temperature cannot be one."""
    if not 0 < share <= 1:
        raise BothwaysError(f"teacher_share must be above 0 and at most 1, such as 0.5, not {share!r}")
    if not temperature > 0:
        raise BothwaysError(f"temperature must be above 0, such as 2, not {temperature!r}")


def ask(teacher: Model, data: LabelledTexts, names: Sequence[str]) -> np.ndarray:
    """``(N, C)`` float32: what a teacher says of labelled texts, before any activation.

    Args:
        teacher: A classifier.
        data: N texts, or pairs.
        names: The student's classes; the teacher may know more.

    Raises:
        BothwaysError: The teacher is no classifier, of another kind, or does not know a class.
    """
    problem = teacher.head("classify", "classify").problem
    wanted = "several" if data.several else "one"
    if problem != wanted:
        kinds = {"one": "one class a text", "several": "several labels a text", "scores": "scores"}
        raise BothwaysError(f"the teacher {teacher.name} gives {kinds[problem]}, and {data.name} has {kinds[wanted]}")
    known = {name: place for place, name in enumerate(teacher.labels)}
    if missing := [name for name in names if name not in known]:
        raise BothwaysError(
            f"the teacher {teacher.name} knows no class {missing[0]!r}, which {data.name} has; its classes: "
            f"{', '.join(teacher.labels[:8])}{' ...' if len(known) > 8 else ''}"
        )
    columns, found = [known[name] for name in names], np.empty((len(data), len(names)), dtype=np.float32)
    with progress("Asking the teacher", len(data), "texts") as bar:
        for start in range(0, len(data), _AT_ONCE):
            places = range(start, min(start + _AT_ONCE, len(data)))
            part = data.take(places, data.name)
            found[places.start : places.stop] = class_logits(teacher, part.texts, part.pairs)[:, columns]
            bar.advance(len(places))
    return found
