"""The families, their sizes and published checkpoints as plain data and as tables, made from the code. No torch."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from bothways.model.config import EncoderConfig
from bothways.model.counts import parameter_count, speed_class, work
from bothways.model.families import families, family
from bothways.model.families.checkpoints import CHECKPOINTS
from bothways.model.families.family import Family

COLUMNS = (
    "family", "year", "paper", "size", "parameters", "layers", "width", "heads", "objectives", "tokenizer",
    "longest input", "speed class",
)  # fmt: skip
NOTE = (
    "Parameters are the encoder's, counted from its configuration; in brackets what its authors state where that "
    "differs. The speed class is computed, not measured: how many times fewer multiplications than BERT base a token "
    "takes in a text of 128 tokens, as a power of two. Sizes with the same figures share a row."
)
CHECKPOINT_COLUMNS = ("name", "hub id", "family", "size", "vocabulary", "trained on", "licence")


def described(members: Family) -> dict[str, Any]:
    """What the code knows about a family, as plain data.

    Returns:
        ``name``, ``title``, ``year``, ``paper``, ``objectives``, ``tokenizer``, ``heads``, and ``sizes`` by name: for
        each ``layers``, ``blocks``, ``width``, ``heads``, ``feed_forward``, ``vocab_size``, ``max_length``,
        ``parameters`` (of the encoder), ``stated_millions`` (by the authors, or None), ``work`` (multiplications for a
        token, relative to BERT base, in a text of 128 tokens) and ``speed_class`` (their inverse as a power of two).
    """
    plain = {key: getattr(members, key) for key in ("name", "title", "year", "paper", "objectives", "tokenizer")}
    sizes = {name: _figures(members, name, config) for name, config in members.sizes.items()}
    return plain | {"heads": list(members.heads), "sizes": sizes}


def _figures(members: Family, name: str, config: EncoderConfig) -> dict[str, Any]:
    base = family("bert").size("base")
    return {
        "layers": config.layers,
        "blocks": max(config.schedule) + 1,
        "width": config.width,
        "heads": config.attention.heads,
        "feed_forward": config.feed_forward.width,
        "vocab_size": config.embeddings.vocab_size,
        "max_length": config.longest,
        "parameters": parameter_count(config),
        "stated_millions": members.stated.get(name),
        "work": round(work(config) / work(base), 4),
        "speed_class": speed_class(config, base),
    }


def table() -> list[tuple[Any, ...]]:
    """The rows under `COLUMNS`, oldest family first; a family's own cells stand in its first row only."""
    rows: list[tuple[Any, ...]] = []
    for members in families().values():
        objectives = ", ".join(members.objectives)
        for place, (names, figures) in enumerate(_alike(described(members)["sizes"])):
            first = (members.name, str(members.year), short_paper(members)) if not place else ("", "", "")
            shape = (figures["layers"], figures["width"], figures["heads"])
            last = (objectives, members.tokenizer) if not place else ("", "")
            ends = (figures["max_length"], figures["speed_class"])
            rows.append((*first, ", ".join(names), _millions(figures), *shape, *last, *ends))
    return rows


def _alike(sizes: dict[str, dict[str, Any]]) -> list[tuple[list[str], dict[str, Any]]]:
    """Sizes whose figures are the same, together."""
    found: dict[tuple[Any, ...], tuple[list[str], dict[str, Any]]] = {}
    for name, figures in sizes.items():
        key = tuple(value for what, value in figures.items() if what != "stated_millions")
        found.setdefault(key, ([], figures))[0].append(name)
    return list(found.values())


def _millions(figures: dict[str, Any]) -> str:
    counted = figures["parameters"] / 1e6
    text = f"{counted:.1f}M" if counted < 10 else f"{counted:.0f}M"
    stated = figures["stated_millions"]
    return text if stated in (None, round(counted)) else f"{text} ({stated}M)"


def short_paper(members: Family) -> str:
    """Authors and place of a family's paper, such as ``Devlin et al., NAACL 2019``; a dash where there is none."""
    authors = re.match(r"(.*? et al\.|[^:]*? and \w+),", members.paper)
    return f"{authors[1]}, {members.paper.rpartition(', ')[2]}" if authors else "–"


def checkpoints() -> list[dict[str, Any]]:
    """The published checkpoints as plain data."""
    return [dataclasses.asdict(one) for one in CHECKPOINTS]


def checkpoint_table() -> list[tuple[Any, ...]]:
    """The rows under `CHECKPOINT_COLUMNS`."""
    return [
        (one.name, one.hub, one.family, one.size or "its own", one.vocabulary, one.trained_on, one.licence)
        for one in CHECKPOINTS
    ]
