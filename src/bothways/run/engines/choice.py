"""Which engine runs a model, and keeping it while the weights stay as they are."""

from __future__ import annotations

import threading

from bothways.errors import BothwaysError, closest
from bothways.run.engines.outputs import Parts
from bothways.run.engines.packed.engine import PackedEngine
from bothways.run.engines.protocol import Engine
from bothways.run.engines.reference import ReferenceEngine

ENGINES = ("reference", "packed")


def check_engine(name: str | None) -> str | None:
    """Returns the name if there is such an engine, or None.

    Raises:
        BothwaysError: There is none; those there are, are listed.
    """
    if name is not None and name not in ENGINES:
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

    def engine(self, parts: Parts, name: str | None, precision: str) -> Engine:
        """The engine for modules as they are now.

        Args:
            parts: The model's modules.
            name: Of the engine; None: the fastest for their device.
            precision: What it multiplies.

        Raises:
            BothwaysError: The engine does not run on the device.
        """
        kind = parts.encoder.device.type
        name = name or ("packed" if kind == "cpu" else "reference")
        if name == "packed" and kind != "cpu":
            raise BothwaysError(f"the engine 'packed' runs on a processor, not on {kind!r}; choose 'reference'")
        if name == "reference":
            return ReferenceEngine(parts, precision)
        with self._lock:
            now = (precision, _state(parts))
            if self._engine is None or now != self._made_of:
                self._engine, self._made_of = PackedEngine(parts, precision), now
            return self._engine


def _state(parts: Parts) -> tuple[object, ...]:
    """Differs when a weight was changed in its place, or a module by another one."""
    modules = (parts.encoder, *parts.heads.values())
    changes = sum(value._version for module in modules for value in module.parameters())
    return (*map(id, modules), next(parts.encoder.parameters()).data_ptr(), changes)
