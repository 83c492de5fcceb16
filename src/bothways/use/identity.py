"""What decides on a model's answers, so that an interrupted job is gone on with by the same model alone."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bothways.run.questions import Questions


def settings_of(model: Questions) -> dict[str, Any]:
    """What decides on a model's answers, as plain data, and a hash of the rest."""
    engine = model.engine
    return {
        "model": identity_of(model),
        "engine": engine.name,
        "precision": engine.precision,
        **{name: value for name, value in engine.describe().items() if name in ("int8", "deterministic") and value},
        "max_length": model.max_length,
        "truncation": model.truncation,
    }


def identity_of(model: Questions) -> str:
    """A hash of a model: its configuration, tokenizer, decoding, and weights."""
    found = hashlib.blake2b(digest_size=16)
    plain = (model.config, sorted(model.head_configs.items()), model.sentence, model.tokenizer.fingerprint)
    found.update(repr(plain).encode("utf-8", "surrogatepass"))
    found.update(json.dumps(model.decoding, sort_keys=True, default=str).encode())
    parts = getattr(model, "parts", None)
    # an exported model is told by where it is
    found.update((repr((model.name, model.engine.describe())) if parts is None else parts.fingerprint()).encode())
    return found.hexdigest()
