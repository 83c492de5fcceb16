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
from bothways.model.config import EncoderConfig, HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.families import families, family
from bothways.model.families.family import Family
from bothways.run import sentence_folder
from bothways.run.files import new_folder, read_json, write_json
from bothways.run.weights import (
    LoadReport,
    Tensors,
    assign,
    read_safetensors,
    read_tensors,
    to_ours,
    write_safetensors,
)
from bothways.text.tokenizer import Tokenizer

OWN_FILE, HEADS_FILE = "bothways.json", "heads.safetensors"


@dataclass
class Saved:
    """What a model folder holds.

    Attributes:
        encoder: The encoder.
        heads: Heads by kind, such as ``"mlm"``.
        head_configs: The heads' configurations by kind.
        tokenizer: The tokenizer, or None for a folder of weights alone.
        sentence: How texts become vectors.
        max_length: The longest text in tokens that it was made for, special tokens included; None: the encoder's limit.
        truncation: What happens to longer texts, as in training: a policy of `Tokenizer.encode`.
        report: Which tensors did not find their place.
    """

    encoder: Encoder
    heads: dict[str, nn.Module]
    head_configs: dict[str, HeadConfig]
    tokenizer: Tokenizer | None
    sentence: sentence_folder.SentenceRecipe = field(default_factory=sentence_folder.SentenceRecipe)
    max_length: int | None = None
    truncation: str = "warn"
    report: LoadReport = field(default_factory=LoadReport)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's ``config.json``.

    Raises:
        BothwaysError: There is none, or it is not a JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise BothwaysError(f"{folder} is not a model folder: it has no config.json")
    config = read_json(path)
    if not isinstance(config, dict):
        raise BothwaysError(f"{path} does not describe a model")
    return config


def _family_of(config: dict[str, Any], path: Path) -> Family:
    """The family that a ``config.json`` names, or means: those of 2018 and 2019 named none."""
    if "model_type" in config:
        return family(str(config["model_type"]))
    classes = config.get("architectures") or (["BertModel"] if "type_vocab_size" in config else [])
    for members in families().values():
        if set(classes) & set(members.architectures.values()):
            return members
    raise BothwaysError(f"{path} names no model_type, so its family is not known")


def encoder_config(folder: Path) -> EncoderConfig:
    """What the encoder of a folder is, without reading its weights.

    Raises:
        BothwaysError: The family is not supported, or a key is not understood.
    """
    config = read_config(folder)
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
    config = encoder_config(folder)
    members = family(config.family)
    report = LoadReport()
    tensors = to_ours(read_tensors(folder), members.names, report)
    if (folder / HEADS_FILE).is_file():
        tensors |= read_safetensors(folder / HEADS_FILE)
    if not any(name.startswith("encoder.pooler.") for name in tensors):
        config = config.derive(pooler=None)
    head_configs = _heads_of(folder, config, tensors, members)
    encoder = build_encoder(config)
    heads = {kind: build_head(head, config) for kind, head in head_configs.items()}
    assign({"encoder": encoder, **heads}, tensors, report, str(folder))
    if str(report):
        warnings.warn(BothwaysWarning(f"tensors of {folder}: {report}"), stacklevel=3)
    tokenizer = Tokenizer.load(folder) if _has_tokenizer(folder) else None
    if tokenizer is not None and tokenizer.size > config.embeddings.vocab_size:
        raise BothwaysError(
            f"the tokenizer in {folder} has {tokenizer.size} tokens, but the model only {config.embeddings.vocab_size}"
        )
    sentence = sentence_folder.read(root)
    own = own_file(folder)
    longest = own.get("max_length", sentence_folder.read_max_length(folder))
    policy = own.get("truncation", "warn")
    return Saved(encoder.eval(), heads, head_configs, tokenizer, sentence, longest, policy, report)


def own_file(folder: Path) -> dict[str, Any]:
    """What only Bothways knows about a model, from ``bothways.json``; empty for a folder that others wrote."""
    known = read_json(folder / OWN_FILE) if (folder / OWN_FILE).is_file() else {}
    if not isinstance(known, dict):
        raise BothwaysError(f"{folder / OWN_FILE} is not what bothways writes; copy the whole model folder again")
    return known


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt"))


def _heads_of(folder: Path, config: EncoderConfig, tensors: Tensors, members: Family) -> dict[str, HeadConfig]:
    """The heads whose tensors a folder holds: as our own file says, else as the published names tell."""
    listed = own_file(folder).get("heads")
    if listed is not None:
        made = [HeadConfig.from_dict(head, str(folder / OWN_FILE)) for head in listed]
        return {head.kind: head for head in made}
    published = read_config(folder)
    found: dict[str, HeadConfig] = {}
    for kind in members.heads:
        if kind != "classify" and any(name.startswith(f"{kind}.") for name in tensors):
            found[kind] = HeadConfig(kind=kind)  # type: ignore[arg-type]
    architectures = published.get("architectures") or ["SequenceClassification"]
    # tagging and multiple choice call their head "classifier" too
    if "classify.output.weight" in tensors and any("SequenceClassification" in name for name in architectures):
        dropout = published.get("classifier_dropout")
        found["classify"] = HeadConfig(
            kind="classify",
            labels=_labels(published, len(tensors["classify.output.weight"]), folder),
            dropout=config.dropout if dropout is None else dropout,
        )
    return found


def _labels(published: dict[str, Any], classes: int, folder: Path) -> tuple[str, ...]:
    problem = published.get("problem_type") or ("regression" if classes == 1 else None)
    if problem not in (None, "single_label_classification"):
        message = f"the classifier of {folder} was trained for {problem}, but is read as choosing one class of several"
        warnings.warn(BothwaysWarning(message), stacklevel=4)
    names = published.get("id2label") or {}
    if all(name == f"LABEL_{place}" for place, name in names.items()):  # nobody named them, nor always counted them
        names = {str(place): f"LABEL_{place}" for place in range(classes)}
    if names.keys() != {str(place) for place in range(classes)}:
        raise BothwaysError(
            f"{folder / 'config.json'} names the labels {', '.join(names)}, but the classifier has {classes} classes, "
            "numbered from 0"
        )
    return tuple(str(names[str(place)]) for place in range(classes))


def write_folder(saved: Saved, folder: Path, *, overwrite: bool = False) -> str:
    """Writes a model folder: under another name first, so that it is there whole or not at all.

    Returns:
        A sentence saying what other libraries will see.

    Raises:
        BothwaysError: The folder exists and is not to be replaced or holds no model, or the disk is full.
    """
    if overwrite and folder.is_dir() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise BothwaysError(f"{folder} holds something else than a model, which is not replaced; choose another folder")
    with new_folder(folder, "the model", overwrite=overwrite) as half:
        return _write_files(saved, half, folder.name)


def _write_files(saved: Saved, folder: Path, title: str) -> str:
    config, members = saved.encoder.config, family(saved.encoder.config.family)
    shared = _published_heads(saved, members)
    architecture = members.architectures[frozenset(shared)]
    tensors = {f"encoder.{name}": value for name, value in saved.encoder.state_dict().items()}
    own: Tensors = {}
    for kind, head in saved.heads.items():
        values = {f"{kind}.{name}": value for name, value in head.state_dict().items()}
        (tensors if kind in shared else own).update(values)
    published = {members.names.published(name, bare=not shared): value for name, value in tensors.items()}
    write_safetensors(published, folder / "model.safetensors")
    if own:
        write_safetensors(own, folder / HEADS_FILE)
    described = members.to_hf(config) | {"architectures": [architecture], "dtype": "float32"}
    classify = saved.head_configs.get("classify")
    if classify is not None:
        described["id2label"] = {str(place): label for place, label in enumerate(classify.labels)}
        described["label2id"] = {label: place for place, label in enumerate(classify.labels)}
        described["classifier_dropout"] = classify.dropout
    write_json(folder / "config.json", described)
    heads = [head.to_dict() for head in saved.head_configs.values()]
    known = {"bothways": bothways.__version__, "max_length": saved.max_length, "truncation": saved.truncation}
    write_json(folder / OWN_FILE, known | {"heads": heads})
    if saved.tokenizer is not None:
        saved.tokenizer.save(folder)
    sentence_folder.write(saved.sentence, folder, config.width, saved.max_length or config.longest)
    rest = f"; the head {', '.join(k for k in saved.heads if k not in shared)} is known to bothways only" if own else ""
    return f"transformers opens {title} as {architecture}{rest}"


def _published_heads(saved: Saved, members: Family) -> list[str]:
    """The largest set of heads that one published class has; ties go to the earlier one in the family's table."""
    plain = {kind for kind, head in saved.head_configs.items() if head.hidden == "none"}
    possible: list[frozenset[str]] = [
        heads for heads in members.architectures if heads <= plain and _fits(heads, saved, members)
    ]
    largest = max(possible, key=len)
    return sorted(largest, key=list(saved.heads).index)


def _fits(heads: frozenset[str], saved: Saved, members: Family) -> bool:
    names = (f"{kind}.{name}" for kind in heads for name in saved.heads[kind].state_dict())
    return members.names.holds(names)
