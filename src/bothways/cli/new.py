"""``bothways new``: a model with random weights, as published or as nobody has built it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from bothways.cli import output
from bothways.cli.options import AttentionStart, Json, Overwrite, Seed, option, written
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways new --family roberta --size base --vocab my-tokenizer --out my-roberta",
    "bothways new --vocab my-tokenizer --set layers=3 --set attention.heads=8 --heads mlm --out my-bert",
    "bothways new --family deberta-v2 --size v3-small --vocab my-tokenizer --set blocks=1 --out shared-deberta",
    "bothways new --vocab my-tokenizer --set attention.kind=rotary --set embeddings.positions=0 --out turned-bert",
]


def new(
    *,
    family: Annotated[str, option("Model", "--family", "NAME", "See: bothways families")] = "bert",
    size: Annotated[str | None, option("Model", "--size", "NAME", "A published size; the family's usual one.")] = None,
    vocab: Annotated[str, option("Model", "--vocab", "FOLDER", "The tokenizer: its tokens are the model's.")],
    settings: Annotated[
        list[str] | None,
        option("Model", "--set", "NAME=VALUE", "Any setting, such as attention.heads=8; see: bothways families NAME"),
    ] = None,
    heads: Annotated[
        str | None, option("Model", "--heads", "KINDS", "Such as mlm,classify, or none; those the paper trains.")
    ] = None,
    labels: Annotated[str | None, option("Model", "--labels", "NAMES", "Classes of a head, such as good,bad.")] = None,
    attention_start: AttentionStart = None,
    seed: Seed = 0,
    out: Annotated[Path, written("--out", "FOLDER", "Where it is written.")],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Make a model folder with random weights: a published size, or any composition of parts."""
    import bothways as bw

    model = bw.new(
        family,
        size,
        vocab=vocab,
        settings=_pairs(settings or ()),
        heads=None if heads is None else _listed(heads),
        labels=_listed(labels or ""),
        attention_start=attention_start,
        seed=seed,
        device="cpu",
    )
    sentence = model.save(out, overwrite=overwrite)
    figures = {
        "out": out,
        "family": family,
        "parameters": model.parameters,
        "heads": list(model.heads),
        "max_length": model.max_length,
        "seen_by_others": sentence,
    }
    if json:
        output.as_json(figures)
        return
    output.facts(figures | {"heads": figures["heads"] or "none", "max_length": model.max_length or "any"})
    output.line(f"\nNext: bothways pretrain texts/ --base {out} --minutes 20 --out pretrained")


def _pairs(listed: Sequence[str]) -> dict[str, str]:
    """Names and values of settings that were typed with an equals sign between them."""
    found: dict[str, str] = {}
    for one in listed:
        name, equals, value = one.partition("=")
        if not (name.strip() and equals):
            raise BothwaysError(f"--set takes NAME=VALUE, such as attention.heads=8, not {one!r}")
        found[name.strip()] = value.strip()
    return found


def _listed(text: str) -> list[str]:
    return [word for word in (one.strip() for one in text.split(",")) if word and word != "none"]
