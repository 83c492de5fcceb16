"""The dense layer of a sentence model, in the folder where `sentence-transformers` has it: ``2_Dense``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from bothways.errors import BothwaysError
from bothways.model.config import HeadConfig
from bothways.run.files import read_json, write_json
from bothways.run.sentence_folder import modules
from bothways.run.weights import Tensors, read_tensors, write_safetensors

_ACTIVATIONS = {
    "none": "torch.nn.modules.linear.Identity",
    "tanh": "torch.nn.modules.activation.Tanh",
    "relu": "torch.nn.modules.activation.ReLU",
    "gelu": "torch.nn.modules.activation.GELU",
    "silu": "torch.nn.modules.activation.SiLU",
}
_FOLDER = "2_Dense"
_INPUT = "sentence_embedding"


def read(folder: Path) -> tuple[HeadConfig, Tensors] | None:
    """The dense layer of a folder and its tensors by our names; None where there is none.

    Raises:
        BothwaysError: The layer is of another kind, or its files are damaged.
    """
    name = modules(folder).get("Dense")
    if name is None:
        return None
    path = folder / name / "config.json"
    config = read_json(path)
    try:
        head = _head(config, path)
    except (KeyError, TypeError, AttributeError):
        raise BothwaysError(f"{path} does not describe a dense layer; copy the whole model folder again") from None
    tensors = {name.replace("linear.", "dense.output."): value for name, value in read_tensors(folder / name).items()}
    return head, tensors


def _head(config: dict[str, Any], path: Path) -> HeadConfig:
    said = str(config.get("activation_function", _ACTIVATIONS["tanh"]))
    found = [ours for ours, theirs in _ACTIVATIONS.items() if said.rsplit(".", 1)[-1] == theirs.rsplit(".", 1)[-1]]
    if not found:
        raise BothwaysError(f"{path} asks for the activation {said}; there are {', '.join(_ACTIVATIONS.values())}")
    reads = config.get("module_input_name", _INPUT)
    if reads != _INPUT or config.get("module_output_name") not in (None, _INPUT) or config.get("use_residual"):
        raise BothwaysError(
            f"{path} asks for a dense layer that reads {reads} or adds what it read; neither is supported"
        )
    return HeadConfig(
        kind="dense",
        inputs=int(config["in_features"]),
        outputs=int(config["out_features"]),
        hidden=found[0],  # type: ignore[arg-type]
        bias=bool(config.get("bias", True)),
    )


def write(head: HeadConfig, module: nn.Module, folder: Path) -> None:
    """Writes the dense layer into a model folder whose recipe was written before.

    Raises:
        BothwaysError: The layer has an activation that the files cannot say.
    """
    if head.hidden not in _ACTIVATIONS:
        raise BothwaysError(
            f"a dense layer with {head.hidden} cannot be saved; it can be made with {', '.join(_ACTIVATIONS)}"
        )
    described = {
        "in_features": head.inputs,
        "out_features": head.outputs,
        "bias": head.bias,
        "activation_function": _ACTIVATIONS[head.hidden],
    }
    write_json(folder / _FOLDER / "config.json", described)
    tensors = {name.replace("output.", "linear."): value for name, value in module.state_dict().items()}
    write_safetensors(tensors, folder / _FOLDER / "model.safetensors")
