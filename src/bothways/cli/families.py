"""``bothways families``: which families there are, and how one differs from BERT."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import Json

EXAMPLES = ["bothways families", "bothways families bert", "bothways families --json"]


def families(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One family, with what is its own.")] = None,
    json: Json = False,
) -> None:
    """List the model families, or show one: what is its own, and its published sizes."""
    from bothways.model.families import families as all_families
    from bothways.model.families import family

    chosen = list(all_families().values()) if name is None else [family(name)]
    if json:
        output.as_json([_described(one) for one in chosen])
    elif name is None:
        columns = ("family", "year", "sizes", "objectives", "tokenizer")
        output.table(
            columns, [(one.name, str(one.year), list(one.sizes), list(one.objectives), one.tokenizer) for one in chosen]
        )
    else:
        _show_one(chosen[0])


def _show_one(family: Any) -> None:
    from bothways.model.families import explanation

    output.line(explanation(family.name) + "\n")
    if differences := _differences(family):
        output.table(("setting", "BERT", family.title), differences, "Its base size and BERT's")
        output.line("")
    rows = [(size, *figures.values()) for size, figures in _sizes(family).items()]
    output.table(("size", "layers", "width", "heads", "feed-forward", "vocabulary", "max length"), rows)


def _described(family: Any) -> dict[str, Any]:
    plain = ("name", "title", "year", "paper", "objectives", "tokenizer")
    described = {key: getattr(family, key) for key in plain}
    return described | {"heads": list(family.heads), "sizes": _sizes(family)}


def _sizes(family: Any) -> dict[str, dict[str, int | None]]:
    return {
        name: {
            "layers": config.layers,
            "width": config.width,
            "heads": config.attention.heads,
            "feed_forward": config.feed_forward.width,
            "vocab_size": config.embeddings.vocab_size,
            "max_length": config.longest,
        }
        for name, config in family.sizes.items()
    }


def _differences(family: Any) -> list[tuple[str, str, str]]:
    """What differs between the family's default size and BERT's, setting by setting, computed."""
    from bothways.model.families import family as named

    bert, own = _flat(named("bert").size().to_dict()), _flat(family.size().to_dict())
    keys = [key for key in dict.fromkeys([*bert, *own]) if key != "family" and bert.get(key) != own.get(key)]
    return [(key, str(bert.get(key, "–")), str(own.get(key, "–"))) for key in keys]


def _flat(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {before + key: value}
    return flat
