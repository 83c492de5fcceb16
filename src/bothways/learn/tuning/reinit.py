"""Last layers that begin anew: they are the most bound to what was pre-trained on.

Zhang et al. 2021, "Revisiting Few-sample BERT Fine-tuning", section 5.
"""

from __future__ import annotations

import torch

from bothways.chance import derived_seed
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder
from bothways.model.encoder import Encoder


def reinitialise(encoder: Encoder, layers: int, seed: int) -> None:
    """Gives the last layers, and the pooler, random weights.

    Args:
        encoder: Changed in place.
        layers: How many; none where it is 0.
        seed: Of the weights.

    Raises:
        BothwaysError: There are fewer, or a block is shared with a layer that stays.
    """
    schedule = encoder.stack.schedule
    if layers > len(schedule):
        raise BothwaysError(f"reinit_layers is {layers}, but this encoder has {len(schedule)} layers")
    stay, anew = (set(part) for part in (schedule[: len(schedule) - layers], schedule[len(schedule) - layers :]))
    if stay & anew:
        raise BothwaysError(
            f"reinit_layers is {layers}, but the last {layers} of the {len(schedule)} layers share their weights with "
            "layers below, which would be lost too; leave it out"
        )
    if not layers:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("reinit", seed))
        fresh = build_encoder(encoder.config)
    for number in anew:
        encoder.stack.blocks[number].load_state_dict(fresh.stack.blocks[number].state_dict())
    if encoder.pooler is not None and fresh.pooler is not None:
        encoder.pooler.load_state_dict(fresh.pooler.state_dict())
