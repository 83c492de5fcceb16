"""Adapters: what LoRA learned, saved small, in the folder layout of the library `peft`, and merged into its base.

``adapter_config.json`` and ``adapter_model.safetensors`` are what `peft` opens beside the base. What only Bothways
knows (heads, labels, which base it was) lies in ``bothways.json``, heads that no published class has in
``heads.safetensors``.

Shapes: I and O a layer's inputs and outputs, R the rank.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import bothways
from bothways.errors import BothwaysError
from bothways.model.build import build_encoder, build_head
from bothways.model.config import HeadConfig
from bothways.model.encoder import Encoder
from bothways.model.families import family
from bothways.model.families.hf import POOLINGS, Reader
from bothways.model.families.names import NameTable
from bothways.paths import as_path
from bothways.run.files import new_folder, read_json, write_json
from bothways.run.folder import Saved, is_published, refuse_folder
from bothways.run.folder_files import HEADS_FILE, OWN_FILE, own_file, read_config
from bothways.run.folder_heads import published_heads
from bothways.run.sentence_folder import encoder_folder
from bothways.run.weights import LoadReport, Tensors, assign, listed, read_safetensors, write_safetensors

Updates = dict[str, tuple[Tensor, Tensor]]
"""For each layer by our name, such as ``encoder.stack.blocks.0.attention.query``: ``(R, I)`` and ``(O, R)``."""

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX, _DOWN, _UP = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
_TASKS = {"classify": "SEQ_CLS", "tag": "TOKEN_CLS", "answer": "QUESTION_ANS"}
_PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "use_dora": (False, None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),
    "fan_in_fan_out": (False, None),
    "rank_pattern": ({}, None),
    "alpha_pattern": ({}, None),
}
"""What an adapter's configuration may say where it says more than a rank and a scale.

Other ways to begin, such as PiSSA's and OLoRA's, take their first product out of the base's weights, and `peft` does so
again whenever it opens such an adapter; it can write one that needs no such base.
"""


@dataclass(frozen=True)
class Adapter:
    """Low-rank updates of a base's linear layers.

    Attributes:
        updates: By layer.
        rank: R.
        alpha: Their scale times the rank.
        dropout: Share of the values that training dropped before them.
        base: What the base is called.
        fingerprint: Of the base's encoder.
        pooler: Whether the pooler was learned too, because the base has none.
    """

    updates: Updates
    rank: int
    alpha: float
    dropout: float
    base: str
    fingerprint: str
    pooler: bool = False


def fingerprint(encoder: Encoder) -> str:
    """A hash of an encoder's weights, its pooler's left out, which comes and goes with heads."""
    found = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        if not name.startswith("pooler."):
            found.update(name.encode())
            found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def write_adapter(adapter: Adapter, saved: Saved, folder: Path, *, overwrite: bool = False) -> None:
    """Writes an adapter with the heads that were learned beside it.

    Args:
        adapter: The updates.
        saved: The model that they were learned in, for its heads.
        folder: Where.
        overwrite: Whether a folder of that name is replaced.

    Raises:
        BothwaysError: The folder exists already or holds something else, or the disk is full; nothing half-written
            stays.
    """
    folder = as_path(folder)
    refuse_folder(folder, overwrite=overwrite, sign=CONFIG_FILE, what="an adapter")
    members = family(saved.encoder.config.family)
    shared = published_heads(saved, members) if is_published(saved.encoder.config) else []
    table = members.table(shared)
    tensors: Tensors = {}
    for name, (down, up) in adapter.updates.items():
        theirs = _published(table, f"{name}.weight", bare=not shared).removesuffix(".weight")
        tensors |= {f"{_PREFIX}{theirs}{_DOWN}": down, f"{_PREFIX}{theirs}{_UP}": up}
    learned = {f"{kind}.{name}": value for kind in shared for name, value in saved.heads[kind].state_dict().items()}
    if adapter.pooler and saved.encoder.pooler is not None:
        learned |= {f"encoder.pooler.{name}": value for name, value in saved.encoder.pooler.state_dict().items()}
    tensors |= {_PREFIX + _published(table, name, bare=not shared): value for name, value in learned.items()}
    own = [kind for kind in saved.heads if kind not in shared]
    beside = {f"{kind}.{name}": value for kind in own for name, value in saved.heads[kind].state_dict().items()}
    with new_folder(folder, "the adapter", overwrite=overwrite) as half:
        write_safetensors(tensors, half / WEIGHTS_FILE)
        if beside:
            write_safetensors(beside, half / HEADS_FILE)
        saving = sorted({_published(table, name, bare=True).partition(".")[0] for name in learned})
        write_json(half / CONFIG_FILE, _peft_config(adapter, table, shared, saving))
        known = {
            "bothways": bothways.__version__,
            "base": {"name": adapter.base, "fingerprint": adapter.fingerprint},
            "max_length": saved.max_length,
            "truncation": saved.truncation,
            "task": saved.task,
            "decoding": saved.decoding,
            "heads": [head.to_dict() for head in saved.head_configs.values()],
        }
        write_json(half / OWN_FILE, known)


def _peft_config(adapter: Adapter, table: NameTable, shared: list[str], saving: list[str]) -> dict[str, Any]:
    theirs = [_published(table, f"{name}.weight", bare=True).removesuffix(".weight") for name in adapter.updates]
    return {
        "peft_type": "LORA",
        "task_type": next((_TASKS[kind] for kind in shared if kind in _TASKS), "FEATURE_EXTRACTION"),
        "base_model_name_or_path": adapter.base,
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "lora_dropout": adapter.dropout,
        "target_modules": theirs,
        "modules_to_save": saving or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }


def _published(table: NameTable, ours: str, *, bare: bool) -> str:
    """The published name of a tensor; our own for a composition that is not published."""
    try:
        return table.published(ours, bare=bare)
    except KeyError:
        return ours


def with_adapter(saved: Saved, folder: Path, base: str, base_folder: Path) -> Saved:
    """A base with an adapter merged into its weights, and with the adapter's heads in place of its own.

    Args:
        saved: The base; its encoder is changed.
        folder: Of the adapter, ours or `peft`'s.
        base: What the base is called, for messages.
        base_folder: Where it was read from.

    Raises:
        BothwaysError: There is no adapter, it is of a kind that is not supported, or was made for another base.
    """
    config, own = _read_config(folder), own_file(folder)
    made_for = own.get("base") or {}
    if made_for and made_for.get("fingerprint") != fingerprint(saved.encoder):
        raise BothwaysError(
            f"the adapter in {folder} was made for {made_for.get('name')}, and the weights of {base} are others; load "
            "it with the base that it was made for"
        )
    members = family(saved.encoder.config.family)
    stated = [HeadConfig.from_dict(head, str(folder / OWN_FILE)) for head in own.get("heads", ())]
    kinds = [str(head.kind) for head in stated] or [
        kind for kind, task in _TASKS.items() if task == config.get("task_type")
    ]
    table = members.table([kind for kind in kinds if kind in members.heads])
    updates, tensors = _parted(read_safetensors(folder / WEIGHTS_FILE), table, folder, base)
    scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config.get("use_rslora") else config["r"])
    _merge(saved.encoder, updates, scale, folder, base)
    if (folder / HEADS_FILE).is_file():
        tensors |= read_safetensors(folder / HEADS_FILE)
    heads = stated or [
        _head(saved, kind, tensors, base_folder) for kind in kinds if any(n.startswith(f"{kind}.") for n in tensors)
    ]
    if heads:
        saved = _with_heads(saved, heads, tensors, folder, base)
    said = {name: own[name] for name in ("max_length", "truncation", "task", "decoding") if name in own}
    return replace(saved, **said)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise BothwaysError(f"{folder} is not an adapter's folder: it has no {CONFIG_FILE}")
    config = read_json(path)
    if not isinstance(config, dict) or not {"peft_type", "r", "lora_alpha"} <= config.keys():
        raise BothwaysError(f"{path} does not describe a LoRA adapter with rank (r) and lora_alpha")
    for key, allowed in _PLAIN.items():
        if config.get(key, allowed[0]) not in allowed:
            raise BothwaysError(
                f"{path} says {key} = {config[key]!r}, which is not supported; {allowed[0]!r} is, so merge the adapter "
                "with the library that wrote it"
            )
    return config


def _parted(tensors: Tensors, table: NameTable, folder: Path, base: str) -> tuple[Updates, Tensors]:
    """The updates by layer, and the other tensors, by our names."""
    halves: dict[str, dict[str, Tensor]] = {_DOWN: {}, _UP: {}}
    others: Tensors = {}
    for name, value in tensors.items():
        bare = name.removeprefix(_PREFIX)
        end = next((end for end in halves if bare.endswith(end)), None)
        place = bare if end is None else bare.removesuffix(end) + ".weight"
        ours = table.ours(place) or (place if place.startswith("encoder.stack.") else "")
        if not ours:
            raise BothwaysError(
                f"the adapter in {folder} was made for another base: {base} has no place for its tensor {name}"
            )
        if end is None and ours.startswith("encoder.") and not ours.startswith("encoder.pooler."):
            raise BothwaysError(
                f"the adapter in {folder} replaces {name}, which is not supported; merge it with the library that "
                "wrote it"
            )
        (others if end is None else halves[end])[ours if end is None else ours.removesuffix(".weight")] = value
    if unpaired := sorted(halves[_DOWN].keys() ^ halves[_UP].keys()):
        raise BothwaysError(f"the adapter in {folder} is not whole: half of the update of {unpaired[0]} is missing")
    if not halves[_DOWN]:
        raise BothwaysError(f"{folder / WEIGHTS_FILE} holds no LoRA update")
    return {name: (down, halves[_UP][name]) for name, down in halves[_DOWN].items()}, others


def _head(saved: Saved, kind: str, tensors: Tensors, base_folder: Path) -> HeadConfig:
    """The head of an adapter that others wrote, which names no labels."""
    classes, members = len(tensors[f"{kind}.output.weight"]), family(saved.encoder.config.family)
    labels = tuple(f"LABEL_{place}" for place in range(classes)) if kind in ("classify", "tag") else ()
    head = members.head(kind, labels=labels)
    if key := members.heads[kind].reads:
        stated = Reader(read_config(encoder_folder(base_folder)))
        head = head.derive(reads=stated.one_of(key, POOLINGS, "cls"))
    return head


def _with_heads(saved: Saved, heads: list[HeadConfig], tensors: Tensors, folder: Path, base: str) -> Saved:
    """The base with an adapter's heads, and with the pooler that they ask for."""
    before = saved.encoder
    config = before.config.derive(pooler="tanh" if any(head.needs_pooler for head in heads) else None)
    encoder = before if config == before.config else build_encoder(config)
    encoder.load_state_dict(before.state_dict(), strict=False)
    made = {str(head.kind): build_head(head, config) for head in heads}
    modules: dict[str, nn.Module] = dict(made)
    brought = any(name.startswith("encoder.pooler.") for name in tensors)
    if encoder.pooler is not None and (brought or before.pooler is None):
        modules["encoder.pooler"] = encoder.pooler
    report = LoadReport()
    assign(modules, tensors, report, str(folder))
    if report.missing:
        raise BothwaysError(
            f"the adapter in {folder} does not fit {base}: neither has {listed(report.missing)}; load it with the base "
            "that it was made for"
        )
    for module in modules.values():
        module.eval()
    return replace(saved, encoder=encoder.eval(), heads=made, head_configs={str(head.kind): head for head in heads})


@torch.no_grad()
def _merge(
    encoder: Encoder, updates: Mapping[str, tuple[Tensor, Tensor]], scale: float, folder: Path, base: str
) -> None:
    layers = {f"encoder.{name}": part for name, part in encoder.named_modules() if isinstance(part, nn.Linear)}
    for name, (down, up) in updates.items():
        layer = layers.get(name)
        if layer is None or layer.weight.shape != (len(up), down.shape[1]):
            has = "no such layer" if layer is None else f"{layer.out_features} × {layer.in_features} there"
            raise BothwaysError(
                f"the adapter in {folder} was made for another base: it changes {name}, {len(up)} × {down.shape[1]}, "
                f"and {base} has {has}"
            )
    for name, (down, up) in updates.items():
        layers[name].weight += scale * (up.float() @ down.float())
