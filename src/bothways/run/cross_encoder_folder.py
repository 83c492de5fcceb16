"""What `sentence-transformers` says of a cross-encoder in its folder: how its single number is told.

Its folders say so under three names, by their age; what is written here is understood by all versions.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.errors import BothwaysError
from bothways.run.files import read_json
from bothways.run.folder_files import read_config

if TYPE_CHECKING:
    from bothways.model.config import HeadConfig

_SETTINGS_FILE = "config_sentence_transformers.json"
_KEY, _OLD_KEY = "sentence_transformers", "sbert_ce_default_activation_function"
_SIGMOID, _IDENTITY = "torch.nn.modules.activation.Sigmoid", "torch.nn.modules.linear.Identity"


def is_scorer(heads: dict[str, HeadConfig]) -> bool:
    """Whether a model gives one number for a text or a pair."""
    head = heads.get("classify")
    return head is not None and head.problem == "scores" and len(head.labels) == 1


def is_cross_encoder(folder: Path) -> bool:
    """Whether a folder says of itself that it is a cross-encoder."""
    config = read_config(folder)
    return _settings(folder).get("model_type") == "CrossEncoder" or _KEY in config or _OLD_KEY in config


def read(folder: Path, heads: dict[str, HeadConfig]) -> dict[str, dict[str, Any]]:
    """How the head's number is told, for `Known.decoding`: empty for folders that are no cross-encoders.

    Raises:
        BothwaysError: The folder asks for an activation other than sigmoid or none.
    """
    if not is_scorer(heads) or not is_cross_encoder(folder):
        return {}
    config = read_config(folder)
    inner = config.get(_KEY)
    stated = inner.get("activation_fn") if isinstance(inner, dict) else None
    stated = stated or config.get(_OLD_KEY) or _settings(folder).get("activation_fn") or _SIGMOID
    known = {"Sigmoid": "sigmoid", "Identity": "identity"}
    name = str(stated).rsplit(".", 1)[-1].removesuffix("()")
    if name not in known:
        raise BothwaysError(
            f"{folder} asks for the activation {stated!r} of its scores, which is not supported; Sigmoid and "
            "Identity are"
        )
    return {"classify": {"activation": known[name]}} if name == "Sigmoid" else {}


def said(heads: dict[str, HeadConfig], decoding: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What ``config.json`` says besides, so that a `CrossEncoder` gives the same scores; nothing for other heads."""
    if not is_scorer(heads):
        return {}
    sigmoid = decoding.get("classify", {}).get("activation") == "sigmoid"
    return {_KEY: {"activation_fn": _SIGMOID if sigmoid else _IDENTITY}}


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / _SETTINGS_FILE
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
