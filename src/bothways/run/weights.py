"""Tensors in and out: safetensors, old ``.bin`` files through the safe loader only, and never in silence."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.model.families.names import NameTable, template
from bothways.run.files import read_json
from bothways.whole import as_others_are

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
            places = read_json(index)
            if not isinstance(places, dict) or not isinstance(places.get("weight_map"), dict):
                raise BothwaysError(f"{index} does not say which file holds which tensor; copy it again")
            shards = sorted(set(places["weight_map"].values()))
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
    except FileNotFoundError:  # which is also said of files that may not be read
        if path.exists():
            raise BothwaysError(f"{path} may not be read; its owner can allow it (chmod +r)") from None
        raise BothwaysError(f"{path} is missing; copy the whole model folder again") from None
    except (SafetensorError, OSError) as error:
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
    if not isinstance(values, dict):
        raise BothwaysError(f"{path} holds a {type(values).__name__}, not tensors by name")
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def write_safetensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes tensors into one file, contiguous and on the host, with the format mark other libraries look for.

    Raises:
        OSError: The disk is full or cannot be written to.
    """
    from safetensors.torch import save_file

    ready = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    try:
        save_file(ready, path, metadata={"format": "pt"})
        as_others_are(path)
    except SafetensorError as error:  # that is how it reports what the system said
        raise OSError(str(error)) from None


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
            parts.append(f"missing (random now): {listed(self.missing)}")
        if self.unexpected:
            parts.append(f"not used: {listed(self.unexpected)}")
        return "; ".join(parts)


def listed(names: Iterable[str]) -> str:
    """Every name, those that differ only in their layer's number as one: ``blocks.0-3,5.attention.query.weight``."""
    layers: dict[str, list[int]] = {}
    for name in names:
        pattern, numbers = template(name)
        layers.setdefault(pattern, []).extend(int(number) for number in numbers)
    return ", ".join(pattern.replace("{}", _ranges(numbers), 1) for pattern, numbers in layers.items())


def _ranges(numbers: Iterable[int]) -> str:
    runs = itertools.groupby(enumerate(sorted(numbers)), key=lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in run] for _, run in runs]
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in ends)


def to_ours(published: Tensors, names: NameTable, report: LoadReport) -> Tensors:
    """Renames a checkpoint's tensors to ours; what has no name of ours goes into the report.

    So does a tensor that should repeat another one, such as the table of a masked-token head, and does not.
    """
    ours: Tensors = {}
    for name in sorted(published, key=names.is_tied):  # a tied repetition only fills a gap
        found = names.ours(name)
        if found is None:
            report.dropped.append(name)
        elif not found:
            report.unexpected.append(name)
        elif found not in ours:
            ours[found] = published[name]
        elif not same(ours[found], published[name]):
            report.unexpected.append(name)
    return ours


def same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors hold the same numbers, whatever their types."""
    return a.shape == b.shape and torch.equal(a.float(), b.float())


def check_blocks(blocks: int, tensors: Tensors, published: Iterable[str], where: str) -> None:
    """Refuses a checkpoint without any tensor for some of the encoder's blocks, which would stay random.

    Args:
        blocks: How many there must be.
        tensors: By our names.
        published: The names in the checkpoint, for messages.
        where: The checkpoint, for messages.

    Raises:
        BothwaysError: A block has none.
    """
    there = {
        int(numbers[0])
        for name in tensors
        if name.startswith("encoder.stack.blocks.") and (numbers := template(name)[1])
    }
    lacking = [number for number in range(blocks) if number not in there]
    if len(lacking) == blocks:
        raise BothwaysError(
            f"the tensors of {where} do not fit its configuration: no block of the encoder is among them; the first is "
            f"named {min(published, default='')!r}, so they are another family's, or of no model at all"
        )
    if lacking:
        raise BothwaysError(
            f"the tensors of {where} do not fit its configuration: it states {blocks} blocks, and there are no tensors "
            f"for {_ranges(lacking)}, counted from 0; the file is another model's, or not whole"
        )


def assign(modules: Mapping[str, nn.Module], tensors: Tensors, report: LoadReport, where: str) -> None:
    """Copies tensors into modules; a name begins with its module's name.

    Args:
        modules: For example ``{"encoder": ..., "mlm": ...}``.
        tensors: By our names, any floating type; copied as float32.
        report: What finds no place is noted here.
        where: The checkpoint, for messages.

    Raises:
        BothwaysError: Shapes disagree, and every tensor concerned is named; or one does not hold floating numbers.
    """
    places = {
        f"{part}.{name}": value for part, module in modules.items() for name, value in module.state_dict().items()
    }
    wrong = [
        f"{name} is {_shape(tensors[name])}, expected {_shape(place)}"
        for name, place in places.items()
        if name in tensors and tensors[name].shape != place.shape
    ]
    if wrong:
        raise BothwaysError(f"the tensors of {where} do not fit its configuration: {listed(wrong)}")
    whole = [
        name
        for name, place in places.items()
        if name in tensors and place.is_floating_point() and not tensors[name].is_floating_point()
    ]
    if whole:
        raise BothwaysError(
            f"{listed(whole)} of {where} are whole numbers: weights that another library quantized are not opened; "
            "take those that it was given"
        )
    with torch.no_grad():
        for name, place in places.items():
            if name in tensors:
                place.copy_(tensors[name])
            else:
                report.missing.append(name)
    report.unexpected.extend(name for name in tensors if name not in places)


def _shape(value: Tensor) -> str:
    return " × ".join(map(str, value.shape)) or "a single number"
