"""From hidden states to one vector a text: pooling, and the dense layer that some sentence models have behind it.

Shapes: T tokens in the packed batch, S sequences, D width, P width of the pooled vectors (D for each way of pooling), E
width of the sentence vectors.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bothways.model.encoder import EncoderOutput
from bothways.model.parts.devices import maxima, sent, sums
from bothways.model.parts.feed_forward import ACTIVATIONS


class DenseHead(nn.Module):
    """A linear layer from pooled vectors to sentence vectors, with an activation where there is one.

    Args:
        inputs: P.
        outputs: E.
        activation: ``"none"`` or a name of `bothways.model.config.Activation`.
        bias: Whether the layer has a bias.
    """

    def __init__(self, inputs: int, outputs: int, activation: str, bias: bool) -> None:
        super().__init__()
        self.output = nn.Linear(inputs, outputs, bias=bias)
        self.activation = nn.Identity() if activation == "none" else ACTIVATIONS[activation]

    def forward(self, x_SP: Tensor) -> Tensor:
        """From ``(S, P)`` to ``(S, E)``, float32."""
        found: Tensor = self.activation(self.output(x_SP))
        return found.float()


def places_pooled(pooling: str, starts: np.ndarray) -> np.ndarray | None:
    """``(M,)`` the tokens that a way of pooling looks at, ascending; None: all."""
    ways = {"cls": starts[:-1], "last": starts[1:] - 1}
    asked = pooling.split("+")
    return np.unique([ways[way] for way in asked]) if all(way in ways for way in asked) else None


def sentence_vectors(output: EncoderOutput, pooling: str, dense: nn.Module | None = None) -> Tensor:
    """One vector a sequence, as `bothways.run.pooling.pool` computes it, with gradients.

    Args:
        output: Of the encoder; at `places_pooled` at least.
        pooling: A name of `bothways.run.pooling.POOLINGS`, or several joined by ``+``: their vectors side by side.
        dense: What is applied to the pooled vectors, such as a `DenseHead`.

    Returns:
        ``(S, E)`` float32, in the order of the batch, not normalised; without `dense` ``(S, P)``.
    """
    parts = [_pooled(output, way) for way in pooling.split("+")]
    x_SP = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
    return x_SP if dense is None else dense(x_SP)


def _pooled(output: EncoderOutput, way: str) -> Tensor:
    starts = output.starts
    if way in ("cls", "last"):
        return output.at(starts[:-1] if way == "cls" else starts[1:] - 1).float()
    x_TD = output.sequence.float()
    lengths = sent(np.diff(starts), x_TD.device)
    if way == "max":
        return maxima(x_TD, lengths)
    if way in ("weighted_mean", "attention"):
        x_TD = x_TD * _weights(x_TD, starts, lengths, way)[:, None]
    sums_SD = sums(x_TD, lengths)
    match way:
        case "mean":
            return sums_SD / lengths[:, None]
        case "mean_sqrt":
            return sums_SD / lengths[:, None].sqrt()
        case _:
            return sums_SD


def _weights(x_TD: Tensor, starts: np.ndarray, lengths: Tensor, way: str) -> Tensor:
    """``(T,)`` weights that sum to 1 in each sequence."""
    if way == "weighted_mean":
        first_T = sent(starts[:-1], x_TD.device).repeat_interleave(lengths, output_size=len(x_TD))
        places_T = torch.arange(len(x_TD), device=x_TD.device) - first_T
        raw_T = (places_T + 1).float()
    else:
        first_SD = x_TD.index_select(0, sent(starts[:-1], x_TD.device))
        first_TD = first_SD.repeat_interleave(lengths, 0, output_size=len(x_TD))
        scores_T = (x_TD * first_TD).sum(1) / x_TD.shape[1] ** 0.5
        top_S = maxima(scores_T.detach(), lengths)
        raw_T = (scores_T - top_S.repeat_interleave(lengths, output_size=len(x_TD))).exp()
    sums_S = sums(raw_T, lengths)
    return raw_T / sums_S.repeat_interleave(lengths, output_size=len(x_TD))
