"""What a saved model is, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.families import family
from bothways.run.exported import Exported, is_exported
from bothways.run.folder_files import read_config
from bothways.run.hub import find_model
from bothways.run.known import Known


def describe_model(source: str | Path, *, offline: bool = False) -> dict[str, Any]:
    """What a saved model is.

    Args:
        source: A model folder, the output folder of a run, an exported folder, or a hub id, as for `load`.
        offline: Keeps hub ids to what was downloaded before.

    Returns:
        ``family``, ``size`` (the published size of this shape, or None), ``layers``, ``width``, ``attention_heads``,
        ``feed_forward``, ``parameters`` (shared ones once), ``encoder_parameters``, ``bytes`` (of the weights on disk),
        ``heads``, ``labels``, ``vocabulary``, ``lowercase``, ``max_length``, ``pooling``, ``normalize``,
        ``vector_width``, ``similarity``, ``prompts`` (names), and ``architectures``, the classes of `transformers` that
        the folder names; ``lower``, what is known of lower precision; ``exported``, what an exported folder says of its
        graph, else None. An exported folder says nothing of parameters (None).

    Raises:
        BothwaysError: There is no such model, or it cannot be read.
    """
    folder = find_model(source, offline)
    if is_exported(folder):
        opened = Exported(folder, name=str(source))
        known = _described(opened.config, opened._known, sorted(folder.glob("model.*")))
        return {
            **known,
            "parameters": None,
            "encoder_parameters": None,
            "exported": opened.exported,
            "architectures": [],
        }
    from bothways.run.folder import read_folder

    saved = read_folder(folder)
    encoder = sum(value.numel() for value in saved.encoder.parameters())
    return {
        **_described(saved.encoder.config, saved, _weights(folder)),
        "parameters": encoder + sum(value.numel() for head in saved.heads.values() for value in head.parameters()),
        "encoder_parameters": encoder,
        "exported": None,
        "architectures": list(read_config(folder).get("architectures") or []),
    }


def _described(config: EncoderConfig, known: Known, files: list[Path]) -> dict[str, Any]:
    """What needs no weights."""
    tokenizer = known.tokenizer
    classify, dense = known.head_configs.get("classify"), known.head_configs.get("dense")
    limits = [limit for limit in (config.longest, known.max_length) if limit]
    return {
        "family": family(config.family).title,
        "size": _size(config),
        "layers": config.layers,
        "width": config.width,
        "attention_heads": config.attention.heads,
        "feed_forward": config.feed_forward.width,
        "bytes": sum(path.stat().st_size for path in files),
        "heads": list(known.head_configs),
        "labels": list(classify.labels) if classify else [],
        "vocabulary": tokenizer.size if tokenizer else config.embeddings.vocab_size,
        "lowercase": tokenizer.lowercase if tokenizer else None,
        "max_length": min(limits, default=None),
        "pooling": known.sentence.pooling,
        "normalize": known.sentence.normalize,
        "vector_width": dense.outputs if dense else config.width * len(known.sentence.pooling.split("+")),
        "similarity": known.sentence.similarity,
        "prompts": [name for name, text in known.sentence.prompts.items() if text],
        "lower": known.lower,
    }


def _size(config: EncoderConfig) -> str | None:
    """The published size of the same shape, whatever its vocabulary."""
    shapes = {_shape(published): name for name, published in reversed(family(config.family).sizes.items())}
    return shapes.get(_shape(config))


def _shape(config: EncoderConfig) -> tuple[object, ...]:
    attention, inner = config.attention, config.feed_forward
    return config.layers, max(config.schedule), config.width, attention.kind, attention.heads, inner.width, inner.gated


def _weights(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.safetensors"))
    return found or sorted(folder.glob("*.bin"))
