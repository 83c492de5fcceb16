"""Where a model is: a local folder, or the id of one on the Hugging Face hub.

A local path never touches the network, and an offline switch (`offline=True`, or ``HF_HUB_OFFLINE``,
``TRANSFORMERS_OFFLINE`` or ``BOTHWAYS_OFFLINE`` set to 1) keeps hub ids to what was downloaded before.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError, closest, need
from bothways.paths import as_path, is_there
from bothways.run.files import bring_back
from bothways.run.folder_files import own_file
from bothways.run.sentence_folder import modules

_FILES = ["*.json", "*.json.gz", "*.txt", "*.safetensors", "*.model", "*.metadata", "*/config.json"]
_GRAPHS = ["model.onnx", "model.onnx.data", "model.xml", "model.bin"]
_OLD_FILES = "pytorch_model*.bin"
_WEIGHTED = ("Transformer", "Dense")
"""Modules of sentence-transformers that have weights."""
_OWNER = "sentence-transformers"
"""Whose models are usually named without their owner, such as all-MiniLM-L6-v2."""


def find(source: str | Path, offline: bool = False) -> Path:
    """The local folder of a model, downloaded first if `source` is a hub id.

    Raises:
        BothwaysError: The folder does not exist, or the hub cannot give the model.
    """
    path = as_path(source)
    bring_back(path)
    if is_there(path):
        return path
    name = str(source)
    if isinstance(source, Path) or not _may_be_id(name):
        near = path.parent.iterdir() if path.parent.is_dir() else ()
        raise BothwaysError(f"there is no model folder {name}{closest(path.name, [entry.name for entry in near])}")
    return _download(name, offline)


def _may_be_id(name: str) -> bool:
    """Whether a name has the form of a hub id, ``model`` or ``owner/model``, and `owner` is no folder here."""
    owner, _, _ = name.rpartition("/")
    return bool(re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", name)) and not (owner and Path(owner).is_dir())


def find_model(source: str | Path, offline: bool = False) -> Path:
    """The folder that holds a model's ``config.json``: what `find` finds, or its ``model`` if it is a run's folder.

    Raises:
        BothwaysError: There is no such folder.
    """
    folder = find(source, offline)
    if not folder.is_dir():
        raise BothwaysError(f"{folder} is a file; a model is a folder with config.json and model.safetensors")
    bring_back(folder / "model")
    if not (folder / "config.json").is_file() and (folder / "model" / "config.json").is_file():
        return folder / "model"
    return folder


def offline_wanted(offline: bool = False) -> bool:
    """Whether the network is off limits, by argument or environment."""
    switches = ("BOTHWAYS_OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return offline or any(os.environ.get(switch, "").lower() in ("1", "true", "yes", "on") for switch in switches)


def _download(name: str, offline: bool) -> Path:
    hub = need("huggingface_hub", "hub", f"there is no folder {name}; loading it from the hub")
    offline = offline_wanted(offline)
    try:
        return _snapshot(hub, name, offline)
    except Exception as error:  # the hub library raises many kinds
        if "/" not in name:
            with suppress(Exception):
                return _snapshot(hub, f"{_OWNER}/{name}", offline)
        if offline:
            why = "it was not downloaded before, and the offline switch is on"
        else:
            why = f"the hub did not give it ({type(error).__name__}: {str(error).strip().partition(chr(10))[0][:120]})"
        raise BothwaysError(f"there is no folder {name}, and {why}; check the name or give a local folder") from None


def _snapshot(hub: Any, name: str, offline: bool) -> Path:
    folder = Path(hub.snapshot_download(name, allow_patterns=_FILES, local_files_only=offline))
    if "exported" in own_file(folder):
        return Path(hub.snapshot_download(name, allow_patterns=_FILES + _GRAPHS, local_files_only=offline))
    held = modules(folder) or {"Transformer": ""}
    parts = [Path(part) for kind, part in held.items() if kind in _WEIGHTED]
    old = [(part / _OLD_FILES).as_posix() for part in parts if not any((folder / part).glob("*.safetensors"))]
    if old:  # older models carry only .bin files
        return Path(hub.snapshot_download(name, allow_patterns=_FILES + old, local_files_only=offline))
    return folder
