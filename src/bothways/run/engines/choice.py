"""Which engine runs a model, and keeping it while the weights stay as they are."""

from __future__ import annotations

import threading
from collections.abc import Callable

from torch import nn

from bothways.errors import BothwaysError, closest
from bothways.run.engines.outputs import Parts
from bothways.run.engines.protocol import Engine, Manner
from bothways.run.engines.reference import ReferenceEngine

FASTEST = {"cpu": "packed", "cuda": "gpu"}
"""The engine that runs fastest, by kind of device; plain torch elsewhere."""
ENGINES = ("auto", "reference", "packed", "gpu")


def check_engine(name: str) -> str:
    """Returns the name if there is such an engine.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    if name not in ENGINES:
        raise BothwaysError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}{closest(name, ENGINES)}")
    return name


class Kept:
    """The engine of a model, made when it is first wanted."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._made_of: object = None
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
            name = "packed" if precision == "int8" else FASTEST.get(kind, "reference")
        if name == "packed" and kind != "cpu":
            raise BothwaysError(f"the engine 'packed' runs on a processor, not on {kind!r}; choose 'reference'")
        if name == "gpu" and kind != "cuda":
            raise BothwaysError(f"the engine 'gpu' runs on a GPU, not on {kind!r}; choose 'packed' or 'reference'")
        if name != "packed" and precision == "int8":
            raise BothwaysError(f"the engine {name!r} does not compute in int8; choose 'packed'")
        if name == "reference":
            return ReferenceEngine(parts, precision, manner)
        with self._lock:
            now = (name, precision, _state(parts))
            if self._engine is None or now != self._made_of:
                self._engine, self._made_of = packed() if name == "packed" else _gpu(parts, precision, manner), now
            return self._engine


def _gpu(parts: Parts, precision: str, manner: Manner | None) -> Engine:
    from bothways.run.engines.gpu import GpuEngine

    return GpuEngine(parts, precision, manner)


def _state(parts: Parts) -> tuple[object, ...]:
    """Differs when a weight was changed in its place, or a module by another one.

    Not every optimizer tells a tensor that it was changed, so some numbers are looked at as well.
    """
    modules: list[nn.Module] = [parts.encoder, *parts.heads.values()]
    values = []
    for module in modules:  # by hand: `parameters` takes a tenth of a short text's time
        modules += [child for child in module._modules.values() if child is not None]
        values += [value for value in module._parameters.values() if value is not None]
    changes = sum(value._version for value in values)
    some = values[:: len(values) // 16 or 1]
    looked_at = [float(value.detach().reshape(-1)[-1]) for value in some]
    return (*map(id, modules), values[0].data_ptr(), changes, *looked_at)
