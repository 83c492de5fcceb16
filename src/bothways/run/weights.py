"""Tensors in and out: safetensors, old ``.bin`` files through the safe loader only, and never in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.families.names import NameTable

Tensors = dict[str, Tensor]


def read_tensors(folder: Path) -> Tensors:
    """All tensors of a saved model by their published names.

    Args:
        folder: Holds ``model.safetensors``, or its shards with an index, or an old ``pytorch_model.bin``.

    Raises:
        BothwaysError: There are no weights, or a file is damaged or is not plain tensors.
    """
    for name, read in (("model.safetensors", read_safetensors), ("pytorch_model.bin", _read_bin)):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return read(folder / name)
        if index.is_file():
            shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            # names come from a file: a path that leads out of the folder is not followed
            return {key: value for shard in shards for key, value in read(folder / Path(shard).name).items()}
    raise BothwaysError(f"{folder} holds no weights; expected model.safetensors")


def read_safetensors(path: Path) -> Tensors:
    """All tensors of one safetensors file.

    Raises:
        BothwaysError: The file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
    except FileNotFoundError:
        raise BothwaysError(f"{path} is missing; copy the whole model folder again") from None
    except SafetensorError as error:
        raise BothwaysError(f"{path} is damaged or not a safetensors file ({error}); copy it again") from None


def _read_bin(path: Path) -> Tensors:
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BothwaysError(f"{path} is missing; copy the whole model folder again") from None
    except Exception as error:
        raise BothwaysError(
            f"{path} cannot be read by the safe loader ({type(error).__name__}); it may be damaged or hold more than "
            "tensors: convert it to safetensors where it is trusted"
        ) from None
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors into one file, contiguous and on the host, with the format mark other libraries look for."""
    from safetensors.torch import save_file

    ready = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_file(ready, path, metadata={"format": "pt"})


@dataclass
class LoadReport:
    """What came of loading: every tensor that did not find its place, by name.

    Attributes:
        missing: Ours that the checkpoint lacks; they keep their random values.
        unexpected: The checkpoint's that have no place here.
        dropped: The checkpoint's that are known to carry nothing.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = []
        if self.missing:
            parts.append(f"missing (random now): {_listed(self.missing)}")
        if self.unexpected:
            parts.append(f"not used: {_listed(self.unexpected)}")
        return "; ".join(parts)


def _listed(names: list[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def to_ours(published: Tensors, names: NameTable, report: LoadReport) -> Tensors:
    """Renames a checkpoint's tensors to ours; what has no name of ours goes into the report."""
    ours: Tensors = {}
    for name in sorted(published, key=names.is_tied):  # a tied repetition only fills a gap
        found = names.ours(name)
        if found is None:
            report.dropped.append(name)
        elif not found:
            report.unexpected.append(name)
        else:
            ours.setdefault(found, published[name])
    return ours


def assign(modules: Mapping[str, nn.Module], tensors: Tensors, report: LoadReport, where: str) -> None:
    """Copies tensors into modules; a name begins with its module's name.

    Args:
        modules: For example ``{"encoder": ..., "mlm": ...}``.
        tensors: By our names, any floating type; copied as float32.
        report: What finds no place is noted here.
        where: The checkpoint, for messages.

    Raises:
        BothwaysError: Shapes disagree; every tensor concerned is named.
    """
    places = {
        f"{part}.{name}": value for part, module in modules.items() for name, value in module.state_dict().items()
    }
    wrong = [
        f"{name} is {tuple(tensors[name].shape)}, expected {tuple(place.shape)}"
        for name, place in places.items()
        if name in tensors and tensors[name].shape != place.shape
    ]
    if wrong:
        raise BothwaysError(f"the tensors of {where} do not fit its configuration: {_listed(wrong, 3)}")
    with torch.no_grad():
        for name, place in places.items():
            if name in tensors:
                place.copy_(tensors[name])
            else:
                report.missing.append(name)
    report.unexpected.extend(name for name in tensors if name not in places)
