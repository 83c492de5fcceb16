"""A model made anew with another configuration, from tensors of the one before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bothways.model.build import build_encoder, build_head
from bothways.model.config import EncoderConfig
from bothways.run.model import Model
from bothways.text.tokenizer import Tokenizer

Change = Callable[[str, str, Tensor], Tensor | None]
"""From a part (``"encoder"`` or the kind of a head), a tensor's name and value to its new value; None leaves it out."""


@torch.no_grad()
def rebuilt(base: Model, config: EncoderConfig, change: Change, tokenizer: Tokenizer | None = None) -> Model:
    """A model of another configuration.

    Args:
        base: Stays as it is.
        config: Of the encoder.
        change: What becomes of each tensor; every one that the new modules have must be there.
        tokenizer: Another one; None for the same.
    """
    encoder = build_encoder(config)
    encoder.load_state_dict(_changed("encoder", base.encoder.state_dict(), change))
    heads = {}
    for kind, head in base.heads.items():
        heads[kind] = build_head(base.head_configs[kind], config)
        heads[kind].load_state_dict(_changed(kind, head.state_dict(), change))
    for part in (encoder, *heads.values()):
        part.eval()
    return base.remade(encoder, heads, tokenizer or base.tokenizer)


def _changed(kind: str, state: dict[str, Tensor], change: Change) -> dict[str, Tensor]:
    made = {name: change(kind, name, value.cpu()) for name, value in state.items()}
    return {name: value for name, value in made.items() if value is not None}
