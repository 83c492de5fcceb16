"""Fewer layers: those are left out, one after the other, without which the hidden states stay most alike.

Layers of a trained encoder differ in how much they change what passes (Sajjad et al. 2020, "On the Effect of Dropping
Layers of Pre-trained Transformer Models"; Men et al. 2024, "ShortGPT"). Each time the layer goes whose absence changes
the last hidden states least, on given texts.

Shapes: T tokens of the texts, D width, L layers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from bothways.errors import BothwaysError
from bothways.learn.compression.rebuilt import rebuilt
from bothways.progress import progress
from bothways.run.model import Model

_BLOCK = re.compile(r"stack\.blocks\.(\d+)\.")


def chosen_layers(model: Model, count: int, texts: Sequence[str]) -> list[int]:
    """The layers that stay.

    Args:
        model: The model.
        count: How many.
        texts: What it is tried on.

    Raises:
        BothwaysError: There are not so many layers.
    """
    layers = list(range(model.config.layers))
    check_layers(model, layers[:count], count)
    if model.config.blocks == 1:  # all are the same
        return layers[:count]
    whole, firm = _hidden(model, layers, texts), 1 if _first_is_special(model) else 0
    with progress("Trying layers", len(layers) - count, "layers") as shown:
        while len(layers) > count:
            tried = [[layer for layer in layers if layer != left] for left in layers[firm:]]
            layers = max(tried, key=lambda some: _alike(whole, _hidden(model, some, texts)))
            shown.advance()
    return layers


def check_layers(model: Model, layers: Sequence[int], count: int) -> None:
    """Refuses layers that are not there.

    Raises:
        BothwaysError: As it says.
    """
    own, blocks = model.config.layers, model.config.blocks
    if not 1 <= count <= own or sorted(set(layers)) != list(layers) or not set(layers) <= set(range(own)):
        raise BothwaysError(
            f"{model.name} has {own} layers, 0 to {own - 1}; say how many stay, or which, in their order"
        )
    if blocks not in (None, 1, own):
        raise BothwaysError(
            f"{model.name} shares {blocks} blocks among its {own} layers, so none can be left out alone"
        )
    if _first_is_special(model) and layers[0] != 0:
        raise BothwaysError(f"the first layer of {model.name} is made otherwise than the others and has to stay")


def with_fewer_layers(base: Model, layers: Sequence[int]) -> Model:
    """A model with some of the layers, in their order; it stays as it is itself."""
    check_layers(base, layers, len(layers))
    changes: dict[str, object] = {"layers": len(layers)}
    if base.config.blocks not in (None, 1):
        changes["blocks"] = len(layers)
    windows = getattr(base.config.attention, "windows", ())
    if len(windows) > 1:
        changes["attention__windows"] = tuple(windows[layer % len(windows)] for layer in layers)
    place = {layer: number for number, layer in enumerate(layers)}
    shared = base.config.blocks == 1
    names = {name: _new_name(name, place, shared) for name in base.encoder.state_dict()}
    state = base.encoder.state_dict()
    moved = {new: state[old] for old, new in names.items() if new is not None}

    def tensor(kind: str, name: str, value: Tensor) -> Tensor | None:
        return value if kind != "encoder" else moved.get(name)

    return rebuilt(base, base.config.derive(**changes), tensor)


def _new_name(name: str, place: dict[int, int], shared: bool) -> str | None:
    found = _BLOCK.match(name)
    if found is None or shared:
        return name
    layer = int(found[1])
    return f"stack.blocks.{place[layer]}.{name[found.end() :]}" if layer in place else None


def _first_is_special(model: Model) -> bool:
    return model.config.convolution is not None or (model.config.norm == "pre" and not model.config.first_norm)


def _hidden(model: Model, layers: Sequence[int], texts: Sequence[str]) -> Tensor:
    """``(T, D)`` the last hidden states with some of the layers."""
    tried = model if len(layers) == model.config.layers else with_fewer_layers(model, layers)
    return torch.from_numpy(np.concatenate(tried.hidden(texts)))


def _alike(one_TD: Tensor, other_TD: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one_TD, other_TD, dim=1).mean())
