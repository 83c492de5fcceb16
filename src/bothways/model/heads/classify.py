"""Heads that score: classes of a sequence, of a token, of one text among several.

All are the same two or three layers; they differ in what they read. Shapes: T tokens, S sequences, N of either, D
width, C classes.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from bothways.model.config import HeadConfig
from bothways.model.encoder import EncoderOutput, places_read
from bothways.model.parts.dropout import Dropout
from bothways.model.parts.feed_forward import ACTIVATIONS


class Scorer(nn.Module):
    """Dropout, a hidden layer with its activation where there is one, and a linear layer.

    Args:
        width: D.
        classes: C.
        head: Which layers there are, and what dropout; `HeadConfig` says what each setting means.
        norm_eps: Epsilon of the norm after the hidden layer.
    """

    def __init__(self, width: int, classes: int, head: HeadConfig, norm_eps: float) -> None:
        super().__init__()
        self.reads, self.input_dropout = head.reads, head.input_dropout
        self.dropout = Dropout(head.dropout)
        self.hidden = self.norm = None
        if head.hidden != "none":
            self.hidden = nn.Linear(width, width, bias=head.bias)
            self.activation = ACTIVATIONS[head.hidden]
            self.norm = nn.LayerNorm(width, eps=norm_eps, bias=head.bias) if head.hidden_norm else None
        self.output = nn.Linear(width, classes)

    def scores(self, x_ND: Tensor) -> Tensor:
        """From ``(N, D)`` to logits ``(N, C)``, float32."""
        if self.hidden is not None:
            x_ND = self.activation(self.hidden(self.dropout(x_ND) if self.input_dropout else x_ND))
            x_ND = x_ND if self.norm is None else self.norm(x_ND)
        return self.output(self.dropout(x_ND)).float()


class SequenceScorer(Scorer):
    """A scorer that reads one vector a sequence."""

    def places(self, starts: np.ndarray) -> np.ndarray | None:
        """``(S,)`` the tokens that it looks at; None: all."""
        return places_read(self.reads, starts)


class ClassifyHead(SequenceScorer):
    """Classes of whole sequences (Devlin et al. 2018, section 4.1)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(S, C)``, float32."""
        return self.scores(output.vectors(self.reads))


class ChooseHead(SequenceScorer):
    """One score a sequence, to be compared with those of the other choices (Devlin et al. 2018, section 4.4)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(S,)``, float32."""
        return self.scores(output.vectors(self.reads)).squeeze(-1)


class TagHead(Scorer):
    """A class for each token (Devlin et al. 2018, section 5.3)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(T, C)``, float32."""
        return self.scores(output.sequence)


class AnswerHead(Scorer):
    """For each token how well an answer begins and ends there (Devlin et al. 2018, section 4.2)."""

    def forward(self, output: EncoderOutput) -> Tensor:
        """Logits ``(T, 2)`` of beginning and end, float32."""
        return self.scores(output.sequence)


class DeepAnswerHead(AnswerHead):
    """An answer head that begins as a block ends: a feed-forward layer, added to what came in and normed.

    Args:
        width: D.
        feed_forward: From ``(T, D)`` to ``(T, D)``.
        head: What dropout; `HeadConfig` says what each setting means.
        norm_eps: Epsilon of the norm.
    """

    def __init__(self, width: int, feed_forward: nn.Module, head: HeadConfig, norm_eps: float) -> None:
        super().__init__(width, 2, head, norm_eps)
        self.feed_forward = feed_forward
        self.norm: nn.LayerNorm = nn.LayerNorm(width, eps=norm_eps)

    def scores(self, x_ND: Tensor) -> Tensor:
        """From ``(N, D)`` to logits ``(N, 2)``, float32."""
        added_ND = self.dropout(self.feed_forward(self.dropout(x_ND)))
        return self.output(self.norm(x_ND + added_ND)).float()
