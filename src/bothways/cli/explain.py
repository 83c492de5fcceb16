"""``bothways explain``: which words make a model say what it says; ``inspect explanations``: whether they do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    DeviceName,
    Json,
    ModelSource,
    Overwrite,
    Seed,
    Text,
    TextPair,
    Threads,
    option,
    plain,
    written,
)

EXAMPLES = [
    'bothways explain my-classifier "Not bad at all, though a little long."',
    'bothways explain my-classifier "Not bad at all." --target bad --way occlusion',
    'bothways explain my-reranker "what keeps bread fresh" --pair "Wrap the loaf in a cloth."',
    'bothways explain my-tagger "Anna flew to Lima." --at Lima --out lima.html',
]
INSPECT_EXAMPLES = ["bothways inspect explanations my-classifier test.csv --limit 500"]
_WIDE = 24


def explain(
    model: ModelSource,
    texts: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="Texts (questions, of a model that answers), or - for lines.")
    ],
    pair: Annotated[
        str | None, option("Data", "--pair", "TEXT", "The second text; the one that holds an answer.")
    ] = None,
    target: Annotated[str | None, plain("--target", "NAME", "The class or tag; the one that the model gives.")] = None,
    at: Annotated[str | None, plain("--at", "WORD", "Of a tagger: the word whose tag is explained.")] = None,
    way: Annotated[
        Literal["gradients", "occlusion"] | None, plain("--way", None, "Integrated gradients, or leaving words out.")
    ] = None,
    device: DeviceName = None,
    threads: Threads = None,
    out: Annotated[Path | None, written("--out", "FILE", "Gets a page with coloured words (.html).")] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Explain what a model says of a text: what each word adds to a class, a score, a tag, an answer, a similarity."""
    import bothways as bw
    from bothways.cli.reading import lines_or_texts
    from bothways.report.explanation_page import write_explanations
    from bothways.report.writing import check_page
    from bothways.use.explain.explain import explain as explained

    if out is not None:
        check_page(out, overwrite)
    loaded, found = bw.load(model, device=device), []
    for text in lines_or_texts(texts):
        told = dataclasses.asdict(explained(loaded, text, pair, target=target, at=at, way=way))
        found.append({"texts": [text] if pair is None else [text, pair], **told})
    if out is not None:
        write_explanations(out, f"What {model} says, word by word", found)
    if json:
        output.as_json(output.one(found))
        return
    for one in found:
        _show(one)
    if out is not None:
        output.line(f"Page: {out}")


def explanations(
    model: ModelSource,
    data: Annotated[str, typer.Argument(metavar="FILE", help="Texts, or pairs of texts.")],
    text: Text = None,
    text_pair: TextPair = None,
    limit: Annotated[int, plain("--limit", "N", "How many texts are looked at.", min=1)] = 200,
    seed: Seed = 0,
    device: DeviceName = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Measure whether the words that explanations name decide: mask them, or all others, and see what is left."""
    import bothways as bw
    from bothways.use.explain.faithful import faithfulness

    found = faithfulness(bw.load(model, device=device), data, text=text, text_pair=text_pair, limit=limit, seed=seed)
    if json:
        output.as_json(found)
        return
    rows = [
        (way, *(cell for side in sides.values() for cell in (side["mean"], _ends(side["interval"]))))
        for way, sides in found["ways"].items()
    ]
    output.table(("way", "comprehensiveness", "95 % interval", "sufficiency", "95 % interval"), rows)
    output.line(
        f"\nOver {found['texts']:,} texts: how far the {found['unit']} falls where the heaviest words are masked (more "
        "is better), and where all others are (less is better)."
    )


def _ends(ends: Sequence[float]) -> str:
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def _show(one: Mapping[str, Any]) -> None:
    """The words with their weights: coloured on a terminal, then the heaviest as a table."""
    from rich.console import Console
    from rich.text import Text as Coloured

    from bothways.report.explanation_page import note

    heaviest = max((abs(word["weight"]) for word in one["words"]), default=0.0) or 1.0
    console = Console(highlight=False)
    output.line(f"{one['said']}: {one['told']:.3f}")
    if console.is_terminal:
        for side, text in enumerate(one["texts"]):
            shaded = Coloured(text)
            for word in one["words"]:
                if word["source"] == side:
                    shaded.stylize(_style(word["weight"] / heaviest), word["start"], word["end"])
            console.print(shaded)
    order = sorted(one["words"], key=lambda word: -abs(word["weight"]))[:_WIDE]
    rows = [
        (
            word["text"],
            f"{word['weight']:+.3f}",
            output.bar(abs(word["weight"]) / heaviest) if word["weight"] > 0 else "",
            output.bar(abs(word["weight"]) / heaviest) if word["weight"] < 0 else "",
        )
        for word in order
    ]
    output.table(("word", "adds", "for", "against"), rows)
    output.line(note(one) + "\n")


def _style(share: float) -> str:
    """Green for, yellow against: behind the heaviest words, for the letters of lesser ones."""
    colour = "green" if share > 0 else "yellow"
    return f"black on {colour}" if abs(share) > 0.6 else colour if abs(share) > 0.25 else ""
