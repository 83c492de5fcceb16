"""What a saved model is, as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.families import family
from bothways.run.folder import read_folder
from bothways.run.folder_files import read_config
from bothways.run.hub import find_model


def describe_model(source: str | Path, *, offline: bool = False) -> dict[str, Any]:
    """What a saved model is.

    Args:
        source: A model folder, the output folder of a run, or a hub id, as for `load`.
        offline: Keeps hub ids to what was downloaded before.

    Returns:
        ``family``, ``size`` (the published size of this shape, or None), ``layers``, ``width``, ``attention_heads``,
        ``feed_forward``, ``parameters`` (shared ones once), ``encoder_parameters``, ``bytes`` (of the weights on disk),
        ``heads``, ``labels``, ``vocabulary``, ``lowercase``, ``max_length``, ``pooling``, ``normalize``,
        ``vector_width``, ``similarity``, ``prompts`` (names), and ``architectures``, the classes of `transformers` that
        the folder names.

    Raises:
        BothwaysError: There is no such model, or it cannot be read.
    """
    folder = find_model(source, offline)
    saved = read_folder(folder)
    config, tokenizer = saved.encoder.config, saved.tokenizer
    classify, dense = saved.head_configs.get("classify"), saved.head_configs.get("dense")
    limits = [limit for limit in (config.longest, saved.max_length) if limit]
    encoder = sum(value.numel() for value in saved.encoder.parameters())
    return {
        "family": family(config.family).title,
        "size": _size(config),
        "layers": config.layers,
        "width": config.width,
        "attention_heads": config.attention.heads,
        "feed_forward": config.feed_forward.width,
        "parameters": encoder + sum(value.numel() for head in saved.heads.values() for value in head.parameters()),
        "encoder_parameters": encoder,
        "bytes": sum(path.stat().st_size for path in _weights(folder)),
        "heads": list(saved.heads),
        "labels": list(classify.labels) if classify else [],
        "vocabulary": tokenizer.size if tokenizer else config.embeddings.vocab_size,
        "lowercase": tokenizer.lowercase if tokenizer else None,
        "max_length": min(limits, default=None),
        "pooling": saved.sentence.pooling,
        "normalize": saved.sentence.normalize,
        "vector_width": dense.outputs if dense else config.width * len(saved.sentence.pooling.split("+")),
        "similarity": saved.sentence.similarity,
        "prompts": [name for name, text in saved.sentence.prompts.items() if text],
        "architectures": list(read_config(folder).get("architectures") or []),
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
