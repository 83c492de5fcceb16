"""A block: attention and feed-forward, each added to what came in and normed.

Shapes: T tokens, D model width.
"""

from __future__ import annotations

from torch import Tensor, nn

from bothways.model.parts import compiling
from bothways.model.parts.context import Context
from bothways.model.parts.dropout import Dropout


class PostNormBlock(nn.Module):
    """The block of Vaswani et al. 2017 and BERT: the norm stands after the sum.

    Args:
        attention: From ``(T, D)``, the context and the layer's number to ``(T, D)``.
        feed_forward: From ``(T, D)`` to ``(T, D)``.
        width: D.
        norm_eps: Epsilon of both norms.
        dropout: Share of values dropped before each sum, in training.
        norm_bias: Whether the norms have biases.

    Attributes:
        compiles: Whether it is trained for so long that compiling pays, where it does at all.
    """

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module,
        width: int,
        norm_eps: float,
        dropout: float,
        norm_bias: bool = True,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.attention_norm = nn.LayerNorm(width, eps=norm_eps, bias=norm_bias)
        self.feed_forward = feed_forward
        self.feed_forward_norm = nn.LayerNorm(width, eps=norm_eps, bias=norm_bias)
        self.dropout = Dropout(dropout)
        self.compiles = False

    def forward(self, x_TD: Tensor, context: Context, layer: int) -> Tensor:
        """One layer.

        Args:
            x_TD: ``(T, D)`` hidden states.
            context: What the layers share.
            layer: The layer's number, from 0.

        Returns:
            ``(T, D)``, or ``(M, D)`` of the tokens that the context wants.
        """
        mixed_TD = self.attention(self.before_attention(x_TD), context, layer)
        x_TD = context.wanted(x_TD)
        if self.compiles and self.training:
            return compiling.after_attention(self, x_TD, mixed_TD)
        return self.after_attention(x_TD, mixed_TD)

    def before_attention(self, x_TD: Tensor) -> Tensor:
        """What attention is given of what came in, ``(T, D)``: all of it as it is."""
        return x_TD

    def after_attention(self, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
        """What follows attention: from what came in and what attention made of it, both ``(T, D)``."""
        x_TD = self.attention_norm(x_TD + self.dropout(mixed_TD))
        return self.feed_forward_norm(x_TD + self.dropout(self.feed_forward(x_TD)))


class PreNormBlock(PostNormBlock):
    """The norm stands before attention and feed-forward, and the sum stays as it is (Xiong et al. 2020)."""

    def before_attention(self, x_TD: Tensor) -> Tensor:
        """What attention is given of what came in, ``(T, D)``: the norm of it."""
        return self.attention_norm(x_TD)

    def after_attention(self, x_TD: Tensor, mixed_TD: Tensor) -> Tensor:
        """As in `PostNormBlock`."""
        x_TD = x_TD + self.dropout(mixed_TD)
        return x_TD + self.dropout(self.feed_forward(self.feed_forward_norm(x_TD)))


def compile_layers(model: nn.Module) -> None:
    """Says of every block in a model that it is trained for so long that compiling pays, where it does at all."""
    for part in model.modules():
        if isinstance(part, PostNormBlock):
            part.compiles = True
