"""TinyBERT's objectives, layer to layer (Jiao et al. 2020, section 3.1).

Layer m of a student with M layers learns from layer m · N / M of its teacher with N: the scores of its attention, and
its output. The embeddings learn from the embeddings. Where the teacher is wider, one linear map for the embeddings and
one for all outputs stand between; they are trained beside the student and not saved with it. All errors are means of
squares, so the widths of batches and encoders do not matter.

Shapes: T tokens, H heads, K head width; L tokens in a sequence; D and E the widths of student and teacher.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from bothways.errors import BothwaysError
from bothways.learn.objectives.distil.products import score_loss
from bothways.learn.objectives.distil.shared import LENGTHS, Compared, Projections, states_of, teacher_of
from bothways.learn.objectives.protocol import Forward, Loss, Targets
from bothways.model.config import EncoderConfig

Pairs = tuple[tuple[int, int], ...]
"""Of the student and of the teacher."""


@dataclass(frozen=True)
class States(Compared):
    """The objective on outputs, or on embeddings.

    Attributes:
        name: ``"states"`` or ``"embeddings"``.
        pairs: Hidden states to compare, counted from the embeddings.
        widths: D and E.
    """

    name: str
    pairs: Pairs
    widths: tuple[int, int]
    hidden = True

    @property
    def reads(self) -> tuple[int, ...]:
        """The teacher's hidden states that it needs, counted from the embeddings."""
        return tuple(theirs for _, theirs in self.pairs)

    def modules(self) -> dict[str, nn.Module]:
        """What is trained beside the student: the map to the teacher's width, where that is another."""
        width, wanted = self.widths
        return {} if width == wanted else {f"{self.name}_map": nn.Linear(width, wanted, bias=False)}

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum over tokens and pairs of the mean square of what both differ by, float32."""
        ours, theirs = states_of(forward), states_of(teacher_of(forward))
        total = torch.zeros((), device=ours[0].device)
        for here, there in self.pairs:
            mapped = model[f"{self.name}_map"](ours[here]) if f"{self.name}_map" in model else ours[here]
            total = total + functional.mse_loss(mapped.float(), theirs[there].float(), reduction="sum")
        return Loss(total / self.widths[1], None)


@dataclass(frozen=True)
class Scores(Compared):
    """The objective on attention: q · k / √K of all pairs of tokens, before the softmax.

    Attributes:
        pairs: Layers to compare, from 0.
        attention_heads: H, of both.
    """

    pairs: Pairs
    attention_heads: int
    name = "scores"
    hidden = True

    @property
    def reads(self) -> tuple[int, ...]:
        """The teacher's hidden states that it needs, counted from the embeddings."""
        return tuple(theirs for _, theirs in self.pairs)

    def count(self, targets: Targets) -> int:
        """The pairs of tokens: the sum of L²."""
        return int(np.square(targets[LENGTHS]).sum())

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum over layers and pairs of tokens of the squared differences, each a mean over heads; float32."""
        ours, theirs = Projections(forward), Projections(teacher_of(forward))
        total = torch.zeros((), device=forward.output.sequence.device)
        for here, there in self.pairs:
            with torch.no_grad():
                q, k, _ = theirs.of(there)
            total = total + score_loss(ours.of(here)[:2], (q, k), forward.batch.plan)
        return Loss(total / self.attention_heads, None)


def layer_to_layer(student: EncoderConfig, teacher: EncoderConfig) -> list[States | Scores]:
    """The three objectives for a pair of encoders.

    Raises:
        BothwaysError: The teacher's layers are no multiple of the student's, or they differ in attention heads.
    """
    step, rest = divmod(teacher.layers, student.layers)
    if rest or not step:
        fitting = [str(layers) for layers in range(1, teacher.layers + 1) if teacher.layers % layers == 0]
        raise BothwaysError(
            f"tinybert pairs each layer with one of the teacher, whose {teacher.layers} layers are no multiple of the "
            f"student's {student.layers}; give the student {', '.join(fitting)} layers, or learn by minilm"
        )
    if student.attention.heads != teacher.attention.heads:
        raise BothwaysError(
            f"tinybert compares attention head by head, but the student has {student.attention.heads} heads and the "
            f"teacher {teacher.attention.heads}; give both as many, or learn by minilm"
        )
    widths = (student.width, teacher.width)
    layers = range(1, student.layers + 1)
    return [
        States("embeddings", ((0, 0),), widths),
        States("states", tuple((layer, layer * step) for layer in layers), widths),
        Scores(tuple((layer - 1, layer * step - 1) for layer in layers), student.attention.heads),
    ]
