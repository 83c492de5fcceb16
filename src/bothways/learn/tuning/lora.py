"""LoRA: matrices stay as they are, and low-rank updates beside them learn.

Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1. Shapes: T tokens, I and O a layer's
inputs and outputs, R the rank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bothways.chance import derived_seed
from bothways.errors import BothwaysError, closest
from bothways.model.encoder import Encoder
from bothways.model.parts.dropout import Dropout
from bothways.run.adapter import Updates

USUAL_TARGETS = ("query", "value", "qkv", "fused")
"""Queries and values (section 7.1), or the one projection that a family has for them."""


class LowRank(nn.Module):
    """A linear layer that does not learn, plus ``scale * up(down(x))``, which does and begins as nothing.

    Args:
        layer: The linear layer, from I to O.
        rank: R.
        scale: Of the update.
        dropout: Share of the inputs dropped before the update, in training.
        draw: Where the weights of `down` come from.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float, dropout: float, draw: torch.Generator) -> None:
        super().__init__()
        self.layer, self.scale = layer.requires_grad_(False), scale
        device = layer.weight.device
        self.down = nn.Linear(layer.in_features, rank, bias=False, device=device)
        self.up = nn.Linear(rank, layer.out_features, bias=False, device=device)
        self.dropout = Dropout(dropout)
        farthest = 1 / math.sqrt(layer.in_features)
        with torch.no_grad():
            self.down.weight.copy_((2 * torch.rand(rank, layer.in_features, generator=draw) - 1) * farthest)
            self.up.weight.zero_()

    def forward(self, x_TI: Tensor) -> Tensor:
        """From ``(T, I)`` to ``(T, O)``."""
        return self.layer(x_TI) + self.scale * self.up(self.down(self.dropout(x_TI)))

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The linear layer with the update in its weights."""
        self.layer.weight += self.scale * (self.up.weight @ self.down.weight)
        return self.layer


def insert(encoder: Encoder, rank: int, alpha: float, targets: Sequence[str] | None, dropout: float, seed: int) -> None:
    """Puts low-rank updates beside an encoder's linear layers, in place; nothing else of it learns then.

    Args:
        encoder: Any.
        rank: Of the updates.
        alpha: Their scale times the rank.
        targets: The layers, by the ends of their names; None: queries and values.
        dropout: Share of the values dropped before them.
        seed: Of their weights.

    Raises:
        BothwaysError: No layer has such a name.
    """
    layers = {name: part for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
    layers = {name: part for name, part in layers.items() if not name.startswith("pooler.")}  # it belongs to the heads
    ends = {name.rpartition(".")[2] for name in layers}
    for target in targets or ():
        if not any(_ends(name, target) for name in layers):
            known = ", ".join(sorted(ends))
            raise BothwaysError(
                f"lora_targets names {target!r}, but the linear layers of this encoder are {known}"
                f"{closest(target, ends)}"
            )
    chosen = {name: layer for name, layer in layers.items() if any(_ends(name, t) for t in targets or USUAL_TARGETS)}
    if not chosen:
        raise BothwaysError(
            f"this encoder has neither queries nor values; name lora_targets: {', '.join(sorted(ends))}"
        )
    encoder.requires_grad_(False)
    draw = torch.Generator().manual_seed(derived_seed("lora", seed))
    for name, layer in chosen.items():
        encoder.set_submodule(name, LowRank(layer, rank, alpha / rank, dropout, draw))


def merge(encoder: Encoder) -> Updates:
    """Puts the updates into the encoder's weights, which makes it an ordinary one again; returns them by layer."""
    updates: Updates = {}
    for name, part in list(encoder.named_modules()):
        if isinstance(part, LowRank):
            updates[f"encoder.{name}"] = (part.down.weight.detach().cpu(), part.up.weight.detach().cpu())
            encoder.set_submodule(name, part.merged())
    return updates


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")
