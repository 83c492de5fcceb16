"""DistilBERT's objectives (Sanh et al. 2019, section 2): a teacher's distribution over the vocabulary, its directions.

Soft targets: the student's distribution at each token against its teacher's, both softened by a temperature. They are
compared at all real tokens, special ones included, as the published training does unless it is told otherwise; its
paper does not say. Cosine: the last hidden states of both are to point the same way.

Shapes: T tokens, M masked places, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.learn.objectives import choices
from bothways.learn.objectives.distil.shared import LENGTHS, Compared, teacher_of
from bothways.learn.objectives.protocol import Forward, Loss, Targets
from bothways.learn.utilisation import TRAINED, guess_work
from bothways.model.config import EncoderConfig
from bothways.model.heads.enhanced_mask_decoder import states_at
from bothways.model.heads.mlm import MaskedTokenHead
from bothways.model.heads.soft_vocabulary_loss import soft_vocabulary_loss
from bothways.model.heads.vocabulary_rows import Logits


@dataclass(frozen=True)
class SoftTargets(Compared):
    """The objective on distributions; a right guess is one that is the teacher's likeliest too.

    Attributes:
        head: The teacher's masked-token head.
        vocabulary: V, the tokens that both know; their tables may have more rows.
        temperature: What logits are divided by.
        places: Which tokens are compared.
        decoders: What the heads of student and teacher guess from.
    """

    head: MaskedTokenHead
    vocabulary: int
    temperature: float = 2.0
    places: choices.SoftTargets = "all"
    decoders: tuple[choices.MaskDecoder, choices.MaskDecoder] = ("plain", "plain")
    name = "soft"
    heads = ("mlm",)
    guesses = True

    @property
    def hidden(self) -> bool:  # type: ignore[override]
        """Whether it reads the output of every layer."""
        return "enhanced" in self.decoders

    @property
    def reads(self) -> tuple[int, ...]:
        """The teacher's hidden states that it needs, counted from the last."""
        return (-2,) if self.decoders[1] == "enhanced" else (-1,)

    def count(self, targets: Targets) -> int:
        """T, or M where masked places alone are compared."""
        return super().count(targets) if self.places == "all" else len(targets["mlm.places"])

    def work(self, config: EncoderConfig, targets: Targets) -> float:
        """Multiplications of the student's head, forward, and of the teacher's, which has no backward pass."""
        dense = self.head.dense
        theirs = dense.weight.numel() + len(self.head.bias) * dense.out_features
        return self.count(targets) * (guess_work(config) + theirs / TRAINED)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum of temperature² · KL(teacher ‖ student), float32; ``hits`` counts agreeing likeliest tokens."""
        if self.places == "all":
            places_M = torch.arange(int(targets[LENGTHS].sum()))
        else:
            places_M = torch.from_numpy(targets["mlm.places"])
        student = self._logits(model["mlm"], forward, self.decoders[0], places_M)  # type: ignore[arg-type]
        with torch.no_grad():
            taught = self._logits(self.head, teacher_of(forward), self.decoders[1], places_M)
        return Loss(*soft_vocabulary_loss(student, taught, self.temperature))

    def _logits(self, head: MaskedTokenHead, forward: Forward, decoder: str, places_M: Tensor) -> Logits:
        parts: tuple[Tensor, Tensor] = forward.encoder.token_table, head.bias
        if len(head.bias) > self.vocabulary:
            parts = parts[0][: self.vocabulary], parts[1][: self.vocabulary]
        if self.places == "all" and decoder == "plain":
            x_MD = forward.output.sequence
        else:
            x_MD = states_at(decoder, forward.encoder, forward.output, forward.batch, places_M)
        return Logits(head.transform(x_MD), *parts)


@dataclass(frozen=True)
class Cosine(Compared):
    """The objective on directions; student and teacher are equally wide."""

    name = "cosine"
    reads = (-1,)

    def loss(self, model: nn.ModuleDict, forward: Forward, targets: Targets) -> Loss:
        """The sum over all tokens of 1 - cos(student's last hidden state, teacher's), float32."""
        ours, theirs = forward.output.sequence.float(), teacher_of(forward).output.sequence.float()
        return Loss((1 - functional.cosine_similarity(ours, theirs, dim=-1)).sum(), None)
