"""The files of late interaction in a model folder, as PyLate and `sentence-transformers` have them, and the first ones.

Read: PyLate's and `MultiVectorEncoder`'s folders (a dense layer behind the encoder), and Stanford's (``linear.weight``
among the encoder's tensors, ``artifact.metadata``). Written: PyLate's, which all of them open but Stanford's own code.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bothways.errors import BothwaysError
from bothways.model.config import HeadConfig
from bothways.run.files import read_json, write_json
from bothways.run.late_recipe import PUNCTUATION, LateRecipe
from bothways.run.sentence_folder import MODULES_FILE, SETTINGS_FILE, check_reading, encoder_folder, modules
from bothways.run.weights import Tensors, read_tensors, write_safetensors

if TYPE_CHECKING:
    import torch

    from bothways.run.folder import Saved

_DENSE, _METADATA, _LINEAR = "1_Dense", "artifact.metadata", "linear.weight"
_OTHERS = "MultiVectorEncoder"
_TYPES = ("ColBERT", _OTHERS)
_ORDER, _MASK = ("Transformer", "Dense", "Normalize"), "MultiVectorMask"
"""The modules that are understood, in their order, and the one that may stand anywhere behind the first."""
_MARKS = ("query_prefix", "document_prefix", "attend_to_expansion_tokens", "do_query_expansion")


class Late(NamedTuple):
    """What a folder says of late interaction.

    Attributes:
        head: The layer.
        tensors: Its weights by our names.
        recipe: How queries and texts are read.
        longest: The longest text in tokens, where it is said.
    """

    head: HeadConfig
    tensors: Tensors
    recipe: LateRecipe
    longest: int | None


def read(folder: Path, published: Tensors) -> Late | None:
    """What a folder says of late interaction; None for a folder of another kind.

    Args:
        folder: A model folder.
        published: The encoder's tensors; Stanford's layer is taken out of them.

    Raises:
        BothwaysError: The folder says something that is not supported.
    """
    if (folder / _METADATA).is_file() and _LINEAR in published:
        weight = published.pop(_LINEAR)
        recipe, longest = _stanford(read_json(folder / _METADATA))
    else:
        said = _settings(folder)
        if said.get("model_type") not in _TYPES and not any(mark in said for mark in _MARKS):
            return None
        kinds = modules(folder)
        _check_modules(folder, kinds, said)
        check_reading(folder, queries=True)
        weight = _linear(folder / kinds["Dense"])
        recipe, longest = _told(folder, said, kinds)
    head = HeadConfig(kind="late", outputs=len(weight), bias=False, dropout=0.0)
    return Late(head, {"late.output.weight": weight}, recipe, longest)


def _check_modules(folder: Path, kinds: dict[str, str], said: dict[str, Any]) -> None:
    """Refuses a folder whose modules make other vectors than ours: longer ones, fewer, or of other layers."""
    path = folder / MODULES_FILE
    if "Dense" not in kinds:
        raise BothwaysError(f"{path} names no Dense, which late interaction needs")
    for kind in kinds.keys() - {*_ORDER, _MASK}:
        raise BothwaysError(f"{path} asks for the module {kind}, which late interaction does not support")
    if [kind for kind in kinds if kind != _MASK] != [kind for kind in _ORDER if kind in kinds]:
        raise BothwaysError(f"{path} asks for {', '.join(kinds)}, but only the order {', '.join(_ORDER)} is supported")
    if said.get("model_type") != _OTHERS:  # PyLate scales vectors in any case
        return
    scaled = folder / kinds.get("Normalize", "") / "config.json"
    if "Normalize" not in kinds or read_json(scaled).get("module_input_name") != "token_embeddings":
        raise BothwaysError(f"{path} names no Normalize of token_embeddings; vectors of any length are not supported")


def _linear(path: Path) -> torch.Tensor:
    """The weight of the dense layer in a folder, where it does nothing but multiply."""
    layer, config = read_tensors(path), read_json(path / "config.json")
    activation = str(config.get("activation_function", "Identity"))
    if layer.keys() != {_LINEAR} or not activation.endswith("Identity") or config.get("use_residual"):
        raise BothwaysError(
            f"{path} asks for a layer with a bias, an activation or a residual connection, which is not supported"
        )
    return layer[_LINEAR]


def _stanford(said: dict[str, Any]) -> tuple[LateRecipe, int | None]:
    recipe = LateRecipe(
        query_length=said.get("query_maxlen") or 32,
        expand="seen" if said.get("attend_to_mask_tokens") else "unseen",
        query_marker=said.get("query_token_id") or "[unused0]",
        document_marker=said.get("doc_token_id") or "[unused1]",
        skip=PUNCTUATION if said.get("mask_punctuation", True) else (),
    )
    return recipe, said.get("doc_maxlen")


def _told(folder: Path, said: dict[str, Any], kinds: dict[str, str]) -> tuple[LateRecipe, int | None]:
    """From PyLate's keys, or those of `MultiVectorEncoder`."""
    prompts = said.get("prompts") or {}
    recipe = LateRecipe(
        query_length=said.get("query_length") or 32,
        query_marker=said.get("query_prefix", prompts.get("query")) or "",
        document_marker=said.get("document_prefix", prompts.get("document")) or "",
    )
    if said.get("model_type") != _OTHERS:
        expand = said.get("do_query_expansion") is not False
        seen = "seen" if said.get("attend_to_expansion_tokens") else "unseen"
        skip = said.get("skiplist_words")
        recipe = replace(recipe, expand=seen if expand else "none", skip=PUNCTUATION if skip is None else tuple(skip))  # type: ignore[arg-type]
        return recipe, said.get("document_length")
    text = encoder_folder(folder) / "sentence_bert_config.json"
    inner = read_json(text) if text.is_file() else {}
    expansion = inner.get("query_expansion")
    if expansion is not None and (expansion.get("strategy") != "fixed" or expansion.get("token")):
        raise BothwaysError(f"{text} asks for a query_expansion that is not supported: {expansion}")
    skip = _skipped(folder / kinds[_MASK] / "config.json") if _MASK in kinds else []
    if expansion is None:
        length = inner.get("query_length") or inner.get("max_seq_length") or 512
        return replace(recipe, query_length=length, expand="none", skip=tuple(skip)), inner.get("document_length")
    seen = "seen" if expansion.get("attend") else "unseen"
    recipe = replace(recipe, query_length=expansion["length"], expand=seen, skip=tuple(skip))  # type: ignore[arg-type]
    return recipe, inner.get("document_length")


def _skipped(path: Path) -> list[str]:
    """The tokens of texts that no query finds, by the settings of a `MultiVectorMask`."""
    mask = read_json(path) if path.is_file() else {}
    skip = mask.get("skiplist_words") or []
    # the two settings are newer than the module: a folder may be without them
    if mask.get("keep_only_token_ids") is not None or (
        skip and mask.get("skiplist_tasks") not in (None, "document", ["document"])
    ):
        raise BothwaysError(f"{path} leaves out tokens of queries too, or all but a few, which is not supported")
    return list(skip)


def write(saved: Saved, folder: Path, longest: int | None) -> None:
    """Writes the layer and how texts are read into a model folder, where the model has such a layer.

    Args:
        saved: The model.
        folder: Its folder.
        longest: The longest text in tokens.
    """
    if "late" not in saved.heads:
        return
    recipe = LateRecipe.of(saved.decoding.get("late", {}))
    listed = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": _DENSE, "type": "pylate.models.Dense.Dense"},
    ]
    layer = {
        "in_features": saved.encoder.config.width,
        "out_features": saved.head_configs["late"].outputs,
        "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }
    settings: dict[str, Any] = {
        "model_type": "ColBERT",
        "prompts": {},
        "default_prompt_name": None,
        "similarity_fn_name": "MaxSim",
        "query_prefix": recipe.query_marker,
        "document_prefix": recipe.document_marker,
        "query_length": recipe.query_length,
        "document_length": longest,
        "attend_to_expansion_tokens": recipe.expand == "seen",
        "do_query_expansion": recipe.expand != "none",
        "skiplist_words": list(recipe.skip),
    }
    (folder / _DENSE).mkdir()
    write_json(folder / MODULES_FILE, listed)
    write_json(folder / _DENSE / "config.json", layer)
    write_safetensors(
        {_LINEAR: saved.heads["late"].state_dict()["output.weight"]}, folder / _DENSE / "model.safetensors"
    )
    write_json(folder / SETTINGS_FILE, settings)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": longest, "do_lower_case": False})


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS_FILE
    found = read_json(path) if path.is_file() else {}
    return found if isinstance(found, dict) else {}
