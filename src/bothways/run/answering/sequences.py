"""What heads that came from pre-training say: does a text follow another, which words were replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from bothways.run.answers import mean_by_text
from bothways.run.spot import Spot, spots

if TYPE_CHECKING:
    from bothways.run.runner import Runner


def follows(model: Runner, a: Sequence[str], b: Sequence[str]) -> np.ndarray:
    """``(texts,)`` how likely each second text follows its first; as `Model.follows` says."""
    head = model.head("nsp", "follows")
    encoded = model.encode(a, b)
    out = np.zeros((len(encoded.texts), 1), dtype=np.float32)
    for batch, shares in model.run(encoded, lambda _, output: torch.softmax(head(output), -1), "nsp"):
        out[batch.rows] = shares[:, :1].cpu().numpy()
    return mean_by_text(out, encoded)[:, 0]


def spot(model: Runner, texts: Sequence[str]) -> list[list[Spot]]:
    """The words of each text with how likely they were replaced; as `Model.spot` says."""
    head = model.head("rtd", "spot")
    encoded = model.encode(texts, None, offsets=True)
    return spots(list(texts), encoded, model.by_token(encoded, lambda output: torch.sigmoid(head(output)), ()))
