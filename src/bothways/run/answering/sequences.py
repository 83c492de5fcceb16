"""What heads that came from pre-training say: does a text follow another, which words were replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bothways.run.answers import mean_by_text
from bothways.run.engines.protocol import Output
from bothways.run.numbers import sigmoid, softmax
from bothways.run.spot import Spot, spots

if TYPE_CHECKING:
    from bothways.run.runner import Runner


def follows(model: Runner, a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """``(texts,)`` how likely each second text follows its first; as `Model.follows` says."""
    model.head("nsp", "follows")
    encoded = model.encode(a, b)
    shares = softmax(model.by_sequence(encoded, Output("nsp"), (2,)))
    return mean_by_text(shares[:, :1], encoded)[:, 0]


def spot(model: Runner, texts: Sequence[str]) -> list[list[Spot]]:
    """The words of each text with how likely they were replaced; as `Model.spot` says."""
    model.head("rtd", "spot")
    encoded = model.encode(texts, None, offsets=True)
    return spots(list(texts), encoded, sigmoid(model.by_token(encoded, Output("rtd"), ())))
