"""What a comparison of bf16 or int16 with float32 found, kept for the next process: a small file in the user's cache.

The comparison takes seconds, and ``precision="auto"`` asks for it in every process. A file is named by all that the
numbers depend on: weights, configurations, vocabulary, processor, versions. One that is missing, damaged or cannot be
written only means that the comparison is made again.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bothways.cache import cache_folder
from bothways.model.kernels.compiled import describe_kernels
from bothways.run.precision import processor_kind

if TYPE_CHECKING:
    from bothways.run.model import Model


def recall(model: Model, precision: str) -> dict[str, Any] | None:
    """The outputs' likeness (``check``) as it was found before; None where it was not."""
    try:
        kept = json.loads(_place(model, precision).read_text(encoding="utf-8"))
        return {"kept": [], "check": kept["check"]} if isinstance(kept["check"]["vector"], dict) else None
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None


def keep(model: Model, precision: str, check: dict[str, Any]) -> None:
    """Keeps what was found."""
    with suppress(OSError, RuntimeError, ValueError, TypeError):
        place = _place(model, precision)
        part = place.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(json.dumps({"check": check}), encoding="utf-8")
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)


def _place(model: Model, precision: str) -> Path:
    """The file for a model in a precision; OSError or RuntimeError where there is no place."""
    parts = model.parts
    depends_on = (
        *(parts.fingerprint(), parts.encoder.config, sorted(parts.head_configs.items()), model.sentence),
        *(model.tokenizer.fingerprint, model.max_length, processor_kind(), describe_kernels()),
        *(version("bothways"), version("torch")),
    )
    name = blake2b(repr(depends_on).encode(), digest_size=12).hexdigest()
    return cache_folder() / f"{precision}-{name}.json"
