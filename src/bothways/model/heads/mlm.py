"""The masked-token head: which token stood here (Devlin et al. 2018, section 3.1).

The head's last layer is the token table of the embeddings, so the table is handed in. It is applied to the M masked
positions only: with 15 % of the tokens masked, that is a seventh of the work.

Shapes: M masked positions, D width, E width of the token table, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bothways.model.heads.vocabulary_loss import Guesses, vocabulary_guesses, vocabulary_loss
from bothways.model.parts.feed_forward import ACTIVATIONS


class MaskedTokenHead(nn.Module):
    """Linear, activation, norm, then the products with every row of the token table.

    Args:
        width: D.
        table_width: E.
        vocab_size: V.
        activation: A name in `ACTIVATIONS`.
        norm_eps: Epsilon of the norm.
        bias: Whether the linear layer and the norm have biases; the vocabulary always has one.
    """

    def __init__(
        self, width: int, table_width: int, vocab_size: int, activation: str, norm_eps: float, bias: bool = True
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(width, table_width, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.norm = nn.LayerNorm(table_width, eps=norm_eps, bias=bias)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def transform(self, hidden_MD: Tensor) -> Tensor:
        """What stands before the products with the table: from ``(M, D)`` to ``(M, E)``."""
        return self.norm(self.activation(self.dense(hidden_MD)))

    def forward(self, hidden_MD: Tensor, table_VE: Tensor) -> Tensor:
        """Scores every token of the vocabulary.

        Args:
            hidden_MD: ``(M, D)`` hidden states of the positions in question.
            table_VE: ``(V, E)`` the token table.

        Returns:
            ``(M, V)`` logits, float32.
        """
        return functional.linear(self.transform(hidden_MD), table_VE, self.bias).float()

    def loss(self, hidden_MD: Tensor, table_VE: Tensor, labels_M: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the cross-entropies over the positions, and how many were guessed right.

        Args:
            hidden_MD: ``(M, D)`` hidden states of the masked positions.
            table_VE: ``(V, E)`` the token table.
            labels_M: ``(M,)`` the tokens that stood there.

        Returns:
            Two float32 scalars; the first carries the gradient.
        """
        return vocabulary_loss(self.transform(hidden_MD), table_VE, self.bias, labels_M)

    def guesses(self, hidden_MD: Tensor, table_VE: Tensor, labels_M: Tensor, draws_M: Tensor | None = None) -> Guesses:
        """The same, position by position too, and where it is asked for a token drawn with the head's probabilities.

        Args:
            hidden_MD: ``(M, D)`` hidden states of the masked positions.
            table_VE: ``(V, E)`` the token table.
            labels_M: ``(M,)`` the tokens that stood there.
            draws_M: ``(M,)`` uniform numbers of at least 0 and below 1, float32; each decides one token.
        """
        return vocabulary_guesses(self.transform(hidden_MD), table_VE, self.bias, labels_M, draws_M)
