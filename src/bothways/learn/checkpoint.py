"""Checkpoints: atomic saving and exact resuming; safetensors and JSON, never pickle.

``OUT/checkpoint`` has two places, ``a`` and ``b``, and a file ``current`` that names the one that is whole. A new
checkpoint is written into the other place, put safely on the disk, and only then named by replacing ``current`` in one
step. So whenever the process is killed, the checkpoint that ``current`` names is complete.

Of several processes the first writes, whole tensors always: what two have saved, one or three can continue.

No state of a random generator is saved, because the loop seeds them anew before each step.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bothways.errors import BothwaysError
from bothways.learn.average import Average
from bothways.learn.parts import like, whole
from bothways.learn.processes import here
from bothways.whole import as_others_are, replace_text, sync

FORMAT = 1
_SPARE = 1 << 20
"""Bytes beyond the tensors: headers, the state, the log's next lines."""


class Checkpoint:
    """The last state of a run, on the disk.

    Args:
        out: The run's folder; the checkpoint is its folder ``checkpoint``.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out / "checkpoint"

    def exists(self) -> bool:
        """Whether a complete checkpoint is there."""
        return (self.folder / "current").exists()

    def check_space(self, model: nn.Module, best: bool, average: Average | None = None) -> None:
        """Makes sure before the first step that the run's checkpoints will fit on the disk.

        Args:
            model: What will be trained.
            best: Whether the best weights will be kept besides.
            average: Of the weights, if it will be kept besides.

        Raises:
            BothwaysError: They do not fit; the sentence says how much is needed and free.
        """
        trainable = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
        weights = tensor_bytes(_own(model))
        places = 1 if self.exists() else 2
        averages = 2 if average is None else 3  # the optimizer's two, and one of the weights
        _check_free(self.folder, places * (weights + averages * trainable) + (3 * weights if best else 0))

    def save(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        average: Average | None = None,
    ) -> None:
        """Saves weights, their average if there is one, the optimizer's averages and the run's state.

        Raises:
            BothwaysError: The disk is full or cannot be written; the checkpoint before stays.
        """
        tensors = {"weights": own_tensors(model), "optimizer": _optimizer_tensors(model, optimizer)}
        if average is not None:
            tensors["average"] = {name: _hosted(value) for name, value in average.values.items()}
        if not here().first:
            return
        before = self._current()
        place = self.folder / ("b" if before == "a" else "a")
        shutil.rmtree(place, ignore_errors=True)  # what a killed process may have left
        with _writing(self.folder, place, sum(map(tensor_bytes, tensors.values()))):
            place.mkdir(parents=True)
            for name, group in tensors.items():
                save_file(group, place / f"{name}.safetensors")
                as_others_are(place / f"{name}.safetensors")
            (place / "state.json").write_text(json.dumps({"format": FORMAT, **state}), encoding="utf-8")
            for path in (*place.iterdir(), place):
                sync(path)
            replace_text(self.folder / "current", place.name)
        if before:
            shutil.rmtree(self.folder / before, ignore_errors=True)

    def read_state(self) -> dict[str, Any]:
        """The run's state as it was saved.

        Raises:
            BothwaysError: There is no readable checkpoint.
        """
        with _reading(self.folder):
            state = json.loads((self.folder / self._current() / "state.json").read_text(encoding="utf-8"))
            if state["format"] != FORMAT:
                raise ValueError(f"it has format {state['format']}, this version reads {FORMAT}")
            return state

    def load(self, model: nn.Module, optimizer: torch.optim.Optimizer, average: Average | None = None) -> None:
        """Puts the saved weights and averages back where they were.

        Raises:
            BothwaysError: There is no readable checkpoint, or it is of another model.
        """
        place = self.folder / self._current()
        _put(place / "weights.safetensors", model)
        with _reading(self.folder):
            if average is not None:
                average.restore(load_file(place / "average.safetensors"))
            saved = load_file(place / "optimizer.safetensors")
            indices = {name: index for index, name in enumerate(_optimizer_names(model, optimizer))}
            places = [place for group in optimizer.param_groups for place in group["params"]]
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in saved.items():
                name, _, part = key.rpartition("/")
                # A copy lies where torch would have put it: kernels may round differently on other alignments.
                place = places[indices[name]]
                own = like(tensor, place) if tensor.shape == place.shape else tensor
                state.setdefault(indices[name], {})[part] = own.clone()
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})

    def discard(self) -> None:
        """Removes the checkpoint, once what it served is safely saved elsewhere."""
        (self.folder / "current").unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _current(self) -> str:
        try:
            return (self.folder / "current").read_text(encoding="utf-8").strip()
        except OSError:
            return ""


class BestWeights:
    """The weights that did best in evaluation: in the run's folder ``best``, by step, or in memory without a folder.

    Args:
        out: The run's folder, or None.
    """

    def __init__(self, out: Path | None) -> None:
        self.folder = out / "best" if out is not None else None
        self._kept: dict[str, Tensor] = {}

    def save(self, model: nn.Module, step: int) -> None:
        """Keeps the present weights; in memory in place of those before."""
        tensors = own_tensors(model)
        if self.folder is None:
            self._kept = {name: tensor.clone() for name, tensor in tensors.items()}
            return
        if not here().first:
            return
        half = self.folder / "half.safetensors"
        with _writing(self.folder, half, tensor_bytes(tensors)):
            self.folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, half)
            as_others_are(half)
            sync(half)
            half.replace(_of_step(self.folder, step))
            sync(self.folder)

    def keep_only(self, *steps: int | None) -> None:
        """Removes the weights of all other steps."""
        if self.folder is None or not here().first:
            return
        kept = {_of_step(self.folder, step) for step in steps if step is not None}
        for path in set(self.folder.glob(_of_step(self.folder, "*").name)) - kept:
            path.unlink(missing_ok=True)

    def load(self, model: nn.Module, step: int) -> None:
        """Puts the weights kept of a step into the model."""
        if self.folder is None:
            put_tensors(model, self._kept)
            return
        path = _of_step(self.folder, step)
        _put(path if path.exists() else self.folder / "weights.safetensors", model)  # as they were named at first

    def discard(self) -> None:
        """Removes all of them, once the model is safely saved elsewhere and no checkpoint names one any more."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def _of_step(folder: Path, step: int | str) -> Path:
    return folder / f"step-{step}.safetensors"


def own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """A model's parameters and lasting buffers by name, whole, on the host; one that is shared appears once."""
    return {name: _hosted(tensor) for name, tensor in _own(model).items()}


def _own(model: nn.Module) -> dict[str, Tensor]:
    found, seen = {}, set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = tensor.detach()
    return found


def _hosted(tensor: Tensor) -> Tensor:
    return whole(tensor.detach()).cpu().contiguous()


def put_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copies tensors, named as `own_tensors` names them, into a model.

    Raises:
        ValueError: A name or shape disagrees.
    """
    places = {name: tensor for name, tensor in model.state_dict().items() if name in _own(model)}
    if places.keys() != tensors.keys():
        raise ValueError(f"it has other tensors: {', '.join(sorted(places.keys() ^ tensors.keys())[:3])}")
    with torch.no_grad():
        for name, place in places.items():
            if place.shape != tensors[name].shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}, not {tuple(place.shape)}")
            place.copy_(like(tensors[name], place))


def tensor_bytes(tensors: dict[str, Tensor]) -> int:
    """The bytes that tensors take on the disk."""
    return sum(tensor.nbytes for tensor in tensors.values())


def _optimizer_names(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The names of the optimizer's parameters in its order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    names = _optimizer_names(model, optimizer)
    return {
        f"{names[index]}/{part}": _hosted(tensor)
        for index, parts in optimizer.state_dict()["state"].items()
        for part, tensor in parts.items()
    }


def _put(path: Path, model: nn.Module) -> None:
    with _reading(path.parent):
        put_tensors(model, load_file(path))


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        sentence = f"the checkpoint in {folder} cannot be read ({error}): remove that folder to begin anew"
        raise BothwaysError(sentence) from None


@contextmanager
def _writing(folder: Path, half: Path, needed: int) -> Iterator[None]:
    """Checks for space, and turns a failure into one sentence, with nothing half-written left."""
    _check_free(folder, needed)
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(half, ignore_errors=True) if half.is_dir() else half.unlink(missing_ok=True)
        full = getattr(error, "errno", None) == errno.ENOSPC or f"os error {errno.ENOSPC}" in str(error)
        what = "the disk is full" if full else str(error)
        kept = "; what was saved before is kept" if (folder / "current").exists() else ""
        raise BothwaysError(f"{folder}: the checkpoint cannot be written because {what}{kept}") from None


def _check_free(folder: Path, needed: int) -> None:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + _SPARE:
        sizes = f"{(needed + _SPARE) / 1e6:,.0f} MB and {free / 1e6:,.0f} MB are free"
        raise BothwaysError(f"{folder}: checkpoints need {sizes}: make room or choose another output folder")
