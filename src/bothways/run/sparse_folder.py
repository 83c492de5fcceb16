"""The files of `sentence-transformers` for sparse vectors: what its `SparseEncoder` opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bothways.errors import BothwaysError
from bothways.run.files import read_json, write_json
from bothways.run.sentence_folder import MODULES_FILE, SETTINGS_FILE, check_reading, modules

_POOLING = "SpladePooling"
_ENCODERS = ("MLMTransformer", "Transformer")
_WAYS = {
    "max": ("max", "relu"),
    "sum": ("sum", "relu"),
    "max_log": ("max", "log1p_relu"),
    "sum_log": ("sum", "log1p_relu"),
}
"""For each of our names what the files call pooling and activation."""


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """How a folder of sparse vectors makes them, for `Known.decoding`; empty for other folders.

    Raises:
        BothwaysError: It asks for other modules, another pooling, or texts that are read in another way.
    """
    kinds = modules(folder)
    if _POOLING not in kinds:
        return {}
    if list(kinds)[1:] != [_POOLING] or next(iter(kinds)) not in _ENCODERS:
        raise BothwaysError(
            f"{folder / MODULES_FILE} asks for {', '.join(kinds)}, but sparse vectors are made of one encoder and "
            f"{_POOLING} alone"
        )
    check_reading(folder, "fill-mask")
    path = folder / kinds[_POOLING] / "config.json"
    config = read_json(path)
    said = (config.get("pooling_strategy", "max"), config.get("activation_function", "relu"))
    found = [ours for ours, theirs in _WAYS.items() if theirs == said]
    if not found:
        raise BothwaysError(f"{path} asks for the pooling {said[0]!r} of {said[1]!r}, which is not supported")
    return {"sparse": {"way": found[0]}}


def write(decoding: dict[str, dict[str, Any]], folder: Path, vocab_size: int, max_length: int | None) -> None:
    """Writes what `SparseEncoder` needs beside the model, where it makes sparse vectors.

    Args:
        decoding: Of the model.
        folder: The model's.
        vocab_size: V, how wide the vectors are.
        max_length: The longest text in tokens.
    """
    if "sparse" not in decoding:
        return
    way, activation = _WAYS[decoding["sparse"]["way"]]
    kinds = {"": "sentence_transformers.sparse_encoder.models.MLMTransformer"}
    kinds |= {f"1_{_POOLING}": f"sentence_transformers.sparse_encoder.models.{_POOLING}"}
    listed = [
        {"idx": place, "name": str(place), "path": path, "type": kind}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    (folder / f"1_{_POOLING}").mkdir()
    pooling = {"pooling_strategy": way, "activation_function": activation, "word_embedding_dimension": vocab_size}
    write_json(folder / MODULES_FILE, listed)
    write_json(folder / f"1_{_POOLING}" / "config.json", pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    settings: dict[str, Any] = {
        "model_type": "SparseEncoder",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "dot",
    }
    write_json(folder / SETTINGS_FILE, settings)
