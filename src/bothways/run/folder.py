"""The saved model: a folder in the layout of the Hugging Face ecosystem.

``config.json``, ``model.safetensors`` and the tokenizer's files are what `transformers` and `sentence-transformers`
open. What only Bothways knows (heads and their labels) lies beside them in ``bothways.json``, and heads for which no
published class exists in ``heads.safetensors``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

import bothways
from bothways.errors import BothwaysError, BothwaysWarning
from bothways.model.build import build_encoder, build_head
from bothways.model.config import EncoderConfig
from bothways.model.encoder import Encoder
from bothways.model.families import families, family
from bothways.model.families.family import Family
from bothways.paths import as_path
from bothways.run import cross_encoder_folder, late_folder, sentence_dense, sentence_folder, sparse_folder
from bothways.run.bound import FASTEST
from bothways.run.files import as_json, new_folder, write_json
from bothways.run.folder_files import HEADS_FILE, OWN_FILE, ROUNDED_FILE, own_file, read_config
from bothways.run.folder_heads import heads_of, kinds_of, published_heads, said_of_heads
from bothways.run.known import Known
from bothways.run.sentence_folder import SentenceRecipe
from bothways.run.weights import (
    LoadReport,
    Tensors,
    assign,
    check_blocks,
    read_safetensors,
    read_tensors,
    to_ours,
    write_safetensors,
)
from bothways.text.published import lowercasing, tokenizer_file
from bothways.text.tokenizer import Tokenizer
from bothways.whole import replace_text

_APART = ("dense", "late")
"""Heads that lie in folders of their own."""


@dataclass(kw_only=True)
class Saved(Known):
    """What a model folder holds: what is `Known`, and the weights.

    Attributes:
        encoder: The encoder.
        heads: Heads by kind, such as ``"mlm"``.
        rounded: Of layers that multiply in int8, by `bothways.run.engines.packed.calibrate.as_tensors`.
        report: Which tensors did not find their place.
    """

    encoder: Encoder
    heads: dict[str, nn.Module]
    rounded: Tensors = field(default_factory=dict)
    report: LoadReport = field(default_factory=LoadReport)


def _family_of(config: dict[str, Any], path: Path) -> Family:
    """The family that a ``config.json`` names, or means: those of 2018 and 2019 named none."""
    if "model_type" in config:
        return family(str(config["model_type"]))
    classes = config.get("architectures") or (["BertModel"] if "type_vocab_size" in config else [])
    for members in families().values():
        if set(classes) & set(members.architectures.values()):
            return members
    raise BothwaysError(f"{path} names no model_type, so its family is not known")


def _refuse_own_code(config: dict[str, Any], path: Path) -> None:
    """Refuses a ``config.json`` whose model is computed by code that lies beside it, or elsewhere.

    Such code may compute anything under a known ``model_type``, and its tensors may even fit.
    """
    classes = config.get("auto_map")
    named = classes.items() if isinstance(classes, dict) else ()
    own = next((str(name) for key, name in named if key.startswith("AutoModel")), None)
    if own is not None:
        raise BothwaysError(
            f"{path} says that code of its own computes the model (auto_map: {own}), which may be something else than "
            f"{config.get('model_type')}; no such code is run here. Where it computes the same, take auto_map out"
        )


def encoder_config(folder: Path) -> EncoderConfig:
    """What the encoder of a folder is, without reading its weights.

    Raises:
        BothwaysError: The family is not supported, or a key is not understood.
    """
    known = own_file(folder)
    if "exported" in known:
        raise BothwaysError(f"{folder} is exported, so it only answers; take the folder that it was exported from")
    own = known.get("encoder")
    if own is not None:  # a composition that no published class computes
        return EncoderConfig.from_dict(own, str(folder / OWN_FILE))
    config = read_config(folder)
    _refuse_own_code(config, folder / "config.json")
    try:
        return _family_of(config, folder / "config.json").from_hf(config)
    except BothwaysError as error:
        raise BothwaysError(f"cannot open {folder}: {error}") from None


def read_folder(folder: Path) -> Saved:
    """Reads a model folder, ours or a published one.

    Raises:
        BothwaysError: Something is missing, damaged, not supported, or does not fit together.
    """
    root, folder = folder, sentence_folder.encoder_folder(folder)
    config, own = encoder_config(folder), own_file(folder)
    members = family(config.family)
    report = LoadReport()
    published = read_tensors(folder)
    late = late_folder.read(root, published)
    if "encoder" in own:
        tensors = published
    else:
        tensors = to_ours(published, members.table(kinds_of(folder, members, published)), report)
    if (folder / HEADS_FILE).is_file():
        tensors |= read_safetensors(folder / HEADS_FILE)
    check_blocks(max(config.schedule) + 1, tensors, published, str(folder))
    if not any(name.startswith("encoder.pooler.") for name in tensors):
        config = config.derive(pooler=None)
    positions = tensors.get("encoder.embeddings.positions.weight")
    if positions is not None and not config.embeddings.positions_added:  # kept for a head that reads them
        config = config.derive(embeddings__positions=len(positions))
    head_configs = heads_of(folder, tensors, members)
    sentence = sentence_folder.read(root) if late is None else SentenceRecipe()
    if late is not None:
        head_configs["late"] = late.head
        tensors |= late.tensors
    if sentence.stated and (dense := sentence_dense.read(root)) is not None:
        head_configs["dense"], layer = dense
        tensors |= layer
    encoder = build_encoder(config)
    heads = {kind: build_head(head, config).eval() for kind, head in head_configs.items()}
    assign({"encoder": encoder, **heads}, tensors, report, str(folder))
    if str(report):
        warnings.warn(BothwaysWarning(f"tensors of {folder}: {report}"), stacklevel=3)
    if advice := sentence_folder.left_to_ask(root):
        warnings.warn(BothwaysWarning(advice), stacklevel=3)
    tokenizer = Tokenizer.load(folder) if tokenizer_file(folder) else None
    if tokenizer is not None and sentence_folder.lowercases(folder):
        tokenizer = Tokenizer(lowercasing(tokenizer.backend), tokenizer.settings)
    if tokenizer is not None and tokenizer.size > config.embeddings.vocab_size:
        raise BothwaysError(
            f"the tokenizer in {folder} has {tokenizer.size} tokens, but the model only {config.embeddings.vocab_size}"
        )
    longest = own.get("max_length", sentence_folder.read_max_length(root))
    if longest is None and tokenizer is not None and cross_encoder_folder.is_scorer(head_configs):
        longest = tokenizer.max_length
    if late is not None and late.longest is not None:
        longest = late.longest
    told = cross_encoder_folder.read(folder, head_configs) | sparse_folder.read(root)
    told |= {} if late is None else {"late": late.recipe.to_dict()}
    return Saved(
        encoder=encoder.eval(),
        heads=heads,
        head_configs=head_configs,
        tokenizer=tokenizer,
        sentence=sentence,
        max_length=longest,
        truncation=own.get("truncation", "warn"),
        task=own.get("task"),
        decoding=own.get("decoding", told),
        lower=own.get("lower", {}),
        rounded=read_safetensors(folder / ROUNDED_FILE) if (folder / ROUNDED_FILE).is_file() else {},
        report=report,
    )


def keep_lower(folder: Path, lower: dict[str, Any], rounded: Tensors) -> None:
    """Adds what was found of lower precision to a folder that is there.

    Args:
        folder: Of a model with weights.
        lower: As in `Known`; what the folder knows of other precisions stays.
        rounded: As in `Saved`; none leave those of the folder.

    Raises:
        BothwaysError: The folder cannot be written.
    """
    folder = sentence_folder.encoder_folder(folder)
    own = own_file(folder)
    before = own.get("lower", {})
    fastest = {**before.get(FASTEST, {}), **lower.get(FASTEST, {})}
    own["lower"] = {**before, **lower, **({FASTEST: fastest} if fastest else {})}
    try:
        if rounded:
            write_safetensors(rounded, folder / f".{ROUNDED_FILE}.tmp")
            (folder / f".{ROUNDED_FILE}.tmp").replace(folder / ROUNDED_FILE)
        replace_text(folder / OWN_FILE, as_json(own))
    except OSError as error:
        raise BothwaysError(
            f"{folder} cannot be written ({error.strerror or error}); bothways quantize writes a copy elsewhere"
        ) from None


def refuse_folder(folder: Path, *, overwrite: bool, sign: str = "config.json", what: str = "a model") -> None:
    """Refuses a folder that a model, or what belongs to one, may not be written to.

    Args:
        folder: The folder.
        overwrite: Whether what it holds is to be replaced, if it is of the same kind.
        sign: The file that each of its kind has.
        what: The kind, for messages.

    Raises:
        BothwaysError: It exists and is not to be replaced, or holds something else.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not overwrite:
        raise BothwaysError(f"{folder.resolve()} exists already; choose another folder or --overwrite")
    if not (folder / sign).is_file():
        raise BothwaysError(f"{folder} holds something else than {what}, which is not replaced; choose another folder")


def write_folder(saved: Saved, folder: Path, *, overwrite: bool = False) -> str:
    """Writes a model folder: under another name first, so that it is there whole or not at all.

    Returns:
        A sentence saying what other libraries will see.

    Raises:
        BothwaysError: The folder exists and is not to be replaced or holds no model, or the disk is full.
    """
    folder = as_path(folder)
    refuse_folder(folder, overwrite=overwrite)
    with new_folder(folder, "the model", overwrite=overwrite) as half:
        return _write_files(saved, half, folder.name)


def _write_files(saved: Saved, folder: Path, title: str) -> str:
    config, members = saved.encoder.config, family(saved.encoder.config.family)
    known: dict[str, Any] = {
        "bothways": bothways.__version__,
        "max_length": saved.max_length,
        "truncation": saved.truncation,
        "task": saved.task,
        "decoding": saved.decoding,
        **({"lower": saved.lower} if saved.lower else {}),
        "heads": [head.to_dict() for kind, head in saved.head_configs.items() if kind not in _APART],
    }
    tensors = {f"encoder.{name}": value for name, value in saved.encoder.state_dict().items()}
    for kind, head in saved.heads.items():
        if kind in _APART:
            continue
        tensors |= {f"{kind}.{name}": value for name, value in head.state_dict().items()}
    if is_published(config):
        sentence = _write_published(saved, members, tensors, folder, title)
    else:
        write_safetensors(tensors, folder / "model.safetensors")
        write_json(folder / "config.json", {"model_type": f"bothways-{config.family}", "architectures": []})
        known["encoder"] = config.to_dict()
        sentence = f"{title} is a composition that no published class computes: bothways alone opens it"
    write_json(folder / OWN_FILE, known)
    if saved.rounded:
        write_safetensors(saved.rounded, folder / ROUNDED_FILE)
    if saved.tokenizer is not None:
        # a scorer is opened elsewhere by what the tokenizer says of its longest text
        scorer = saved.max_length is not None and cross_encoder_folder.is_scorer(saved.head_configs)
        (saved.tokenizer.with_max_length(saved.max_length) if scorer else saved.tokenizer).save(folder)
    dense = saved.head_configs.get("dense")
    longest = saved.max_length or config.longest
    sentence_folder.write(saved.sentence, folder, config.width, longest, dense=dense is not None)
    late_folder.write(saved, folder, longest)
    sparse_folder.write(saved.decoding, folder, config.embeddings.vocab_size, longest)
    if dense is not None:
        sentence_dense.write(dense, saved.heads["dense"], folder)
    return sentence


def is_published(config: EncoderConfig) -> bool:
    """Whether the family's own ``config.json`` can say all that a configuration says."""
    members = family(config.family)
    if not members.is_published or (config.pooler and not members.names.holds(["encoder.pooler.dense.weight"])):
        return False
    try:
        said = members.from_hf(members.to_hf(config)).derive(pooler=config.pooler)
    except BothwaysError:
        return False
    if not config.embeddings.positions_added:  # the tensors tell whether there is a table
        said = said.derive(embeddings__positions=config.embeddings.positions)
    return said.schedule == config.schedule and said.derive(blocks=config.blocks) == config  # None: one a layer


def _write_published(saved: Saved, members: Family, tensors: Tensors, folder: Path, title: str) -> str:
    """Writes weights and configuration under published names; returns what other libraries will see."""
    shared = published_heads(saved, members)
    architecture = members.architectures[frozenset(shared)]
    table = members.table(shared)
    own = {name: value for name, value in tensors.items() if name.split(".")[0] not in ("encoder", *shared)}
    rest = {name: value for name, value in tensors.items() if name not in own}
    published = {table.published(name, bare=not shared): value for name, value in rest.items()}
    write_safetensors(published, folder / "model.safetensors")
    if own:
        write_safetensors(own, folder / HEADS_FILE)
    described = members.to_hf(saved.encoder.config) | {"architectures": [architecture], "dtype": "float32"}
    write_json(folder / "config.json", said_of_heads(saved, members, shared) | described)
    beside = f"; the head {', '.join(k for k in saved.heads if k not in shared)} is known to bothways only"
    return f"transformers opens {title} as {architecture}{beside if own else ''}"
