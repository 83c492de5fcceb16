"""Losses over sentence vectors, a file each: what they need, the paper, the formula."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from bothways.errors import BothwaysError, closest
from bothways.learn.vectors.step import VectorLoss

_WHERE = {
    "mnrl": ("in_batch", "InBatch"),
    "simcse": ("simcse", "SimCse"),
    "cosent": ("cosent", "CoSent"),
    "angle": ("angle", "Angle"),
    "cosine": ("cosine", "Cosine"),
    "softmax": ("softmax", "Softmax"),
    "contrastive": ("contrastive", "Contrastive"),
    "online": ("online", "OnlineContrastive"),
    "triplet": ("triplet", "Triplet"),
    "mined": ("mined", "MinedTriplets"),
    "tsdae": ("tsdae", "Tsdae"),
    "distil": ("distil", "DistilVectors"),
    "parallel": ("parallel", "Parallel"),
}
"""For each name on the command line the file and the class; a new loss is one file and one line here."""
LOSSES = tuple(_WHERE)
USUAL = {
    "texts": "simcse",
    "classes": "mined",
    "pairs": "mnrl",
    "scored": "cosent",
    "labelled": "online",
    "triplets": "mnrl",
}
"""What each form of data is learned with where nobody says."""
ALONE = ("simcse", "tsdae", "mined")
"""Losses that read their texts in a way of their own, so that none can stand beside them."""


def loss_kind(name: str) -> Any:
    """The class of a loss.

    Raises:
        BothwaysError: There is no such loss.
    """
    if name not in _WHERE:
        raise BothwaysError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}{closest(name, LOSSES)}")
    module, kind = _WHERE[name]
    return getattr(importlib.import_module(f"bothways.learn.vectors.losses.{module}"), kind)


def named_losses(loss: str) -> tuple[str, ...]:
    """The losses that are asked for, such as ``mnrl+cosent``.

    Raises:
        BothwaysError: There is no such loss, it is named twice, or one of them only stands alone.
    """
    names = tuple(name.strip() for name in loss.split("+"))
    for name in names:
        loss_kind(name)
        if names.count(name) > 1:
            raise BothwaysError(f"the loss {name} is named twice in {loss!r}")
        if name in ALONE and len(names) > 1:
            raise BothwaysError(f"{name} reads its texts in a way of its own, so no other loss can stand beside it")
    return names


def make_losses(names: tuple[str, ...], given: Mapping[str, Any]) -> list[VectorLoss]:
    """Losses with their settings; None leaves a setting as it is, and what a loss does not have is left out."""
    made = []
    for name in names:
        kind = loss_kind(name)
        own = {each.name for each in fields(kind)}
        made.append(cast(VectorLoss, kind(**{k: v for k, v in given.items() if k in own and v is not None})))
    return made
