"""What a comparison of lower precision with float32 found, kept for the next process: a small file in the user's cache.

The comparison takes seconds, and every process asks for it. A file is named by all that the numbers depend on: weights,
configurations, vocabulary, processor, versions. One that is missing, damaged or cannot be written only means that the
comparison is made again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bothways.cache import cache_folder
from bothways.run.bound import Bound
from bothways.run.processor import processor_kind


def recall(precision: str, depends_on: tuple[object, ...]) -> tuple[dict[str, Any], Bound] | None:
    """What was found before, and for which bound: the layers ``kept``, the outputs' likeness (``check``), the ``gain``.

    Args:
        precision: Which.
        depends_on: What the numbers depend on, but for processor and version; told apart by its representation.
    """
    try:
        found = json.loads(_place(precision, depends_on).read_text(encoding="utf-8"))
        bound, kept = Bound(**found.pop("bound")), list(found["kept"])
        gain, known = float(found.get("gain", 1)), isinstance(found["check"]["vector"], dict)
        return ({**found, "kept": kept, "gain": gain}, bound) if known else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def keep(precision: str, depends_on: tuple[object, ...], found: dict[str, Any], bound: Bound) -> None:
    """Keeps what was found."""
    with suppress(OSError, RuntimeError, ValueError, TypeError):
        place = _place(precision, depends_on)
        part = place.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps({**found, "bound": asdict(bound)}), encoding="utf-8")
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _place(precision: str, depends_on: tuple[object, ...]) -> Path:
    """The file; OSError or RuntimeError where there is no place."""
    named = repr((depends_on, processor_kind(), version("bothways")))
    return cache_folder() / f"{precision}-{blake2b(named.encode(), digest_size=12).hexdigest()}.json"
