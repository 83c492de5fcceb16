"""Which engine runs a model, and keeping it while the weights stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from operator import is_
from typing import Any

import torch
from torch import Tensor, nn

from bothways.errors import BothwaysError, closest
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import Engine, Manner
from bothways.run.engines.reference import ReferenceEngine
from bothways.run.forked import renewed

FASTEST = {"cpu": "packed", "cuda": "gpu"}
"""The engine that runs fastest, by kind of device; plain torch elsewhere."""
_PACKED = ("int8", "int16")
"""Precisions of the packed engine alone."""
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as others."""
ENGINES = ("auto", "reference", "packed", "gpu")


def check_engine(name: str) -> str:
    """Returns the name if there is such an engine.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    if name not in ENGINES:
        raise BothwaysError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}{closest(name, ENGINES)}")
    return name


def usual_device(engine: str, precision: str) -> str:
    """Where a model lies unless it is told: on a GPU if there is one, but for what only a processor computes."""
    on_processor = engine == "packed" or (engine == "auto" and precision in _PACKED)
    return "cuda" if torch.cuda.is_available() and not on_processor else "cpu"


class Kept:
    """The engine of a model, made when it is first wanted."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._made_of: object = None
        self._watched = _Watched()
        renewed(self)

    def renew(self) -> None:
        """Nobody makes it, as in a child of this process, where no other thread goes on."""
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()  # in another process the engine is made again

    def engine(
        self, parts: Parts, name: str, precision: str, packed: Callable[[], Engine], manner: Manner | None = None
    ) -> Engine:
        """The engine for modules as they are now.

        Args:
            parts: The model's modules.
            name: Of the engine; ``"auto"``: the fastest for their device.
            precision: What it multiplies.
            packed: Makes the packed engine.
            manner: How others run.

        Raises:
            BothwaysError: The engine does not run on the device, or not in the precision.
        """
        kind = parts.encoder.device.type
        if name == "auto":
            name = "packed" if precision in _PACKED else FASTEST.get(kind, "reference")
        if name == "packed" and kind != "cpu":
            raise BothwaysError(f"the engine 'packed' runs on a processor, not on {kind!r}; choose 'reference'")
        if name == "gpu" and kind != "cuda":
            raise BothwaysError(f"the engine 'gpu' runs on a GPU, not on {kind!r}; choose 'packed' or 'reference'")
        if name != "packed" and precision in _PACKED:
            raise BothwaysError(f"the engine {name!r} does not compute in {precision}; choose 'packed'")
        if name == "reference":
            return ReferenceEngine(parts, precision, manner)
        with self._lock:
            state = self._watched.state(parts)
            if self._engine is None or (name, precision, state) != self._made_of:
                self._engine = packed() if name == "packed" else _gpu(parts, precision, manner)
                self._made_of = (name, self._engine.precision, state)  # `auto` may have gone on to another one
            return self._engine


def _gpu(parts: Parts, precision: str, manner: Manner | None) -> Engine:
    from bothways.run.engines.gpu import GpuEngine

    return GpuEngine(parts, precision, manner)


class _Watched:
    """Modules and weights, looked at before each question: so it must take no time to speak of."""

    def __init__(self) -> None:
        self._places: list[tuple[dict[str, Any], str, Any]] = []
        self._values: list[nn.Parameter] = []
        self._of: list[nn.Module] = []
        self._walks = 0
        self._pointers: list[int] = []
        self._some: list[Any] = []

    def state(self, parts: Parts) -> tuple[object, ...]:
        """Differs when a weight was changed in its place, or a module by another one.

        Not everything that changes a tensor tells so, such as some optimizers and whoever writes to its ``data``: so
        some numbers of each weight are looked at as well.
        """
        modules = [parts.encoder, *parts.heads.values()]
        same = len(modules) == len(self._of) and all(map(is_, modules, self._of))
        if not same or any(held.get(name) is not value for held, name, value in self._places):
            self._walk(modules)
            self._of, self._walks = modules, self._walks + 1
        pointers = [value.data_ptr() for value in self._values]
        if pointers != self._pointers:
            self._pointers, self._some = pointers, _some(self._values)
        changes = sum(0 if value.is_inference() else value._version for value in self._values)
        numbers = _read(self._some)
        return self._walks, changes, pointers, numbers

    def _walk(self, modules: list[nn.Module]) -> None:
        self._places, self._values, self._pointers = [], [], []
        for module in (inner for outer in modules for inner in outer.modules()):
            for held in (module._modules, module._parameters):
                self._places += [(held, name, value) for name, value in held.items()]
            self._values += [value for value in module._parameters.values() if value is not None]


def _read(some: list[Any]) -> object:
    """What stands there now; a device is waited for once."""
    if some and isinstance(some[0], Tensor):
        return torch.cat(some).tolist()
    return [numbers.tobytes() for numbers in some]


def _some(values: list[nn.Parameter]) -> list[Any]:
    """Views of a few numbers of each value; of a few values where each has to be waited for."""
    if any(value.device.type != "cpu" for value in values):
        return [value.detach().flatten()[-1:] for value in values[:: len(values) // 8 or 1]]
    flat = [value.detach().view(-1) for value in values if value.is_contiguous()]
    return [one[:: len(one) // 8 | 1].view(_BITS[one.element_size()]).numpy() for one in flat]
