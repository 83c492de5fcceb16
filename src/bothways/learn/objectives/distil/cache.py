"""What a teacher made of each example, kept on the disk so that further epochs and runs need not run it.

A folder with three files: ``states.bin`` has a place of equal size for every example (with copies: for every copy of
it), 16 bits a number; ``marks.bin`` has a checksum of every place, over what the example was and what is kept of it, 0
where nothing is; ``cache.json`` says what all of it depends on. A place is written before its mark, and one that does
not bear out its mark counts as empty, so whatever interrupts the writing, what is whole can be used. Places that were
never written take no room on file systems with sparse files.

Shapes: S sequences, L the most tokens of one, T tokens in the batch, N hidden states kept, D width.
"""

from __future__ import annotations

import json
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.batch import TokenBatch
from bothways.errors import BothwaysError
from bothways.progress import say
from bothways.run.files import read_json
from bothways.whole import replace_text

_FORMAT = 1
_INDEX, _STATES, _MARKS = "cache.json", "states.bin", "marks.bin"
_SPARE = 1 << 26
"""Bytes of the disk that are left alone."""


@dataclass(frozen=True)
class Shape:
    """How large a cache is.

    Attributes:
        copies: Ways in which each example comes; the epochs go round them.
        examples: Numbered from 0.
        length: L.
        states: N.
        width: D.
    """

    copies: int
    examples: int
    length: int
    states: int
    width: int

    @property
    def places(self) -> int:
        """Examples, each copy counted."""
        return self.copies * self.examples

    @property
    def place_bytes(self) -> int:
        """Bytes of a place."""
        return 2 * self.length * self.states * self.width

    @property
    def bytes(self) -> int:
        """Bytes when it is full."""
        return self.places * (self.place_bytes + 4)


class TeacherCache:
    """The cache in a folder, which is made if it is not there.

    Numbers are kept as bf16 in a run in bf16, where the teacher's are just that, and else as float16.

    Args:
        folder: Where.
        shape: How large.
        identity: All that the teacher's outputs depend on, as JSON can hold it.
        bf16: Whether the run computes in bf16.

    Raises:
        BothwaysError: The folder holds the outputs of another teacher, corpus or setting, or something else, or there
            is no room for it.
    """

    def __init__(self, folder: str | Path, shape: Shape, identity: dict[str, Any], *, bf16: bool) -> None:
        self.folder, self.shape = Path(folder).expanduser(), shape
        self._type = torch.bfloat16 if bf16 else torch.float16
        depends = {"format": _FORMAT, "numbers": str(self._type), **vars(shape), **json.loads(json.dumps(identity))}
        try:
            self._open(depends)
        except OSError as error:
            raise BothwaysError(
                f"{self.folder}: the teacher's outputs cannot be kept here ({error.strerror})"
            ) from None

    def holds(self, keys: np.ndarray) -> bool:
        """Whether there is something for each of the keys ``(S, 2)``, its checksums not looked at."""
        return bool(self._marks[self._places(keys)].all())

    def find(self, keys: np.ndarray, batch: TokenBatch) -> Tensor | None:
        """The hidden states of a batch.

        Args:
            keys: ``(S, 2)`` epoch and number of each sequence.
            batch: The sequences.

        Returns:
            ``(N, T, D)``, bf16 or float32 as the run computes, or None if those of any sequence are not there.
        """
        if not self.holds(keys):
            return None
        found = np.empty((batch.tokens, self.shape.states, self.shape.width), dtype=np.int16)
        for place, a, b in self._walk(keys, batch):
            found[a:b] = self._states[place, : b - a]
            if self._marks[place] != _mark(batch, a, b, found[a:b]):
                return None
        states = torch.from_numpy(found).view(self._type).transpose(0, 1)
        return states if self._type == torch.bfloat16 else states.float()

    def keep(self, keys: np.ndarray, batch: TokenBatch, states_NTD: Tensor) -> None:
        """Writes the hidden states of a batch, but those of sequences that are there already.

        Raises:
            BothwaysError: The disk is full or cannot be written; what was kept before stays.
        """
        largest = torch.finfo(self._type).max
        rounded = states_NTD.transpose(0, 1).detach().float().clamp(-largest, largest).to("cpu", self._type)
        values = rounded.contiguous().view(torch.int16).numpy()
        try:
            with (self.folder / _STATES).open("r+b") as file:
                for place, a, b in self._walk(keys, batch):
                    held = self._states[place, : b - a]
                    if self._marks[place] and self._marks[place] == _mark(batch, a, b, held):
                        continue
                    self._marks[place] = 0
                    file.seek(place * self.shape.place_bytes)
                    file.write(values[a:b].tobytes())  # not through the map: a full disk would end the process
                    file.flush()
                    self._marks[place] = _mark(batch, a, b, values[a:b])
        except OSError as error:
            raise BothwaysError(
                f"{self.folder}: the teacher's outputs cannot be written ({error.strerror}); make room or leave "
                "teacher_cache out; what is kept there stays usable"
            ) from None

    def _open(self, depends: dict[str, Any]) -> None:
        index, states, marks = (self.folder / name for name in (_INDEX, _STATES, _MARKS))
        if index.is_file():
            self._check_same(index, depends)
        elif self.folder.exists() and {path.name for path in self.folder.iterdir()} - {_STATES, _MARKS}:
            raise BothwaysError(f"{self.folder} holds something else than a teacher's outputs; give another folder")
        self._check_room(states)
        self.folder.mkdir(parents=True, exist_ok=True)
        for path, size in ((states, self.shape.places * self.shape.place_bytes), (marks, 4 * self.shape.places)):
            if not index.is_file() or not path.is_file() or path.stat().st_size != size:
                with path.open("wb") as file:
                    file.truncate(size)
        if not index.is_file():
            replace_text(index, json.dumps(depends, indent=1) + "\n")
        sizes = (self.shape.places, self.shape.length, self.shape.states, self.shape.width)
        self._states = np.memmap(states, dtype=np.int16, mode="r", shape=sizes)
        self._marks = np.memmap(marks, dtype=np.uint32, mode="r+", shape=sizes[:1])

    def _check_same(self, index: Path, depends: dict[str, Any]) -> None:
        there = read_json(index)
        for name in [*depends, *there]:
            if there.get(name) != depends.get(name):
                raise BothwaysError(
                    f"{self.folder} keeps a teacher's outputs for another run ({name} is {there.get(name)!r} there and "
                    f"{depends.get(name)!r} here); give another folder, or remove it"
                )

    def _check_room(self, states: Path) -> None:
        taken = getattr(states.stat(), "st_blocks", 0) * 512 if states.is_file() else 0
        there = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        needed, free = max(0, self.shape.bytes - taken), shutil.disk_usage(there).free
        if needed + _SPARE > free:
            raise BothwaysError(
                f"{self.folder}: the teacher's outputs take up to {needed / 1e9:,.1f} GB and {free / 1e9:,.1f} GB are "
                "free: make room, give a folder elsewhere, or leave teacher_cache out"
            )
        say(f"The teacher's outputs are kept in {self.folder}, up to {self.shape.bytes / 1e9:,.2f} GB")

    def _places(self, keys: np.ndarray) -> np.ndarray:
        return (keys[:, 0] % self.shape.copies) * self.shape.examples + keys[:, 1]

    def _walk(self, keys: np.ndarray, batch: TokenBatch) -> list[tuple[int, int, int]]:
        """The place of each sequence, and where it begins and ends in the batch."""
        starts = batch.starts.tolist()
        return list(zip(self._places(keys).tolist(), starts[:-1], starts[1:], strict=True))


def _mark(batch: TokenBatch, a: int, b: int, values: np.ndarray) -> int:
    """A checksum of a sequence and of what is kept of it; never 0."""
    seen = zlib.crc32(np.stack((batch.token_ids[a:b], batch.segment_ids[a:b])).tobytes())
    return zlib.crc32(np.ascontiguousarray(values).tobytes(), seen) or 1
