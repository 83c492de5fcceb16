"""What a model folder says of itself: in ``config.json`` to everyone, in ``bothways.json`` what only Bothways knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.files import read_json

OWN_FILE, HEADS_FILE, ROUNDED_FILE = "bothways.json", "heads.safetensors", "rounded.safetensors"


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``.

    Raises:
        BothwaysError: There is none, or it is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise BothwaysError(f"{folder} is not a model folder: it has no config.json")
    config = read_json(path)
    if not isinstance(config, dict):
        raise BothwaysError(f"{path} does not describe a model")
    return config


def own_file(folder: Path) -> dict[str, Any]:
    """What only Bothways knows about a model, from ``bothways.json``; empty for a folder that others wrote."""
    known = read_json(folder / OWN_FILE) if (folder / OWN_FILE).is_file() else {}
    if not isinstance(known, dict):
        raise BothwaysError(f"{folder / OWN_FILE} is not what bothways writes; copy the whole model folder again")
    return known
