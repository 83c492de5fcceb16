"""``bothways prune``: a smaller model, by what given texts need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import DeviceName, Json, ModelSource, Overwrite, Threads, data, plain
from bothways.cli.reading import named_files
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways prune intfloat/multilingual-e5-small german-e5 --texts german/ --vocabulary",
    "bothways prune my-bert small-bert --texts texts/ --layers 6 --feed-forward 0.5",
    "bothways prune my-bert small-bert --texts texts/ --layers 0,1,2,5 --vocabulary --fewest 3 --held-out new.txt",
]


def prune(
    model: ModelSource,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The folder that is made.")],
    texts: Annotated[list[str], data("--texts", "SOURCE", "What the model is to be used on; may be repeated.")],
    vocabulary: Annotated[bool, plain("--vocabulary", None, "Leave out tokens that the texts do not have.")] = False,
    fewest: Annotated[int, plain("--fewest", "N", "Occurrences of a token that stays.", min=1)] = 1,
    tokens: Annotated[int | None, plain("--tokens", "N", "The most tokens that stay, beside letters.", min=1)] = None,
    layers: Annotated[
        str | None, plain("--layers", "N|LIST", "How many layers stay, chosen on the texts; or which: 0,2,4.")
    ] = None,
    feed_forward: Annotated[
        float | None, plain("--feed-forward", "SHARE|N", "Of the inner values of feed-forward layers, what stays.")
    ] = None,
    held_out: Annotated[
        list[str] | None, data("--held-out", "SOURCE", "Texts that both models are compared on; those of --texts.")
    ] = None,
    device: DeviceName = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a smaller copy of a model: fewer tokens, layers or inner values, chosen by what given texts need."""
    import bothways as bw
    from bothways.run.folder import refuse_folder

    refuse_folder(out, overwrite=overwrite)
    found = bw.prune(
        bw.load(model, device=device),
        named_files(texts),
        vocabulary=vocabulary,
        fewest=fewest,
        tokens=tokens,
        layers=None if layers is None else _layers(layers),
        feed_forward=feed_forward,
        held_out=named_files(held_out) if held_out else None,
    )
    found.model.save(out, overwrite=overwrite)
    facts = {"out": out, "before": found.before, "after": found.after, "layers": found.layers, "alike": found.alike}
    if json:
        output.as_json(facts)
        return
    rows = [(name.replace("_", "-"), value, found.after[name]) for name, value in found.before.items()]
    output.table(("", "before", "after"), rows)
    if found.layers is not None:
        output.line(f"\nLayers that stayed: {', '.join(map(str, found.layers))}")
    alike = found.alike
    decided = f", {alike['equal_decisions']:.1%} equal decisions" if "equal_decisions" in alike else ""
    output.line(
        f"\n{out} on {int(alike['texts']):,} texts: cosine with {model} {alike['mean_cosine']:.4f}, at worst "
        f"{alike['worst_cosine']:.4f}{decided}"
    )


def _layers(typed: str) -> int | list[int]:
    try:
        numbers = [int(number) for number in typed.split(",")]
    except ValueError:
        raise BothwaysError(f"--layers {typed!r} is neither a number of layers nor a list such as 0,2,4") from None
    return numbers if "," in typed else numbers[0]
