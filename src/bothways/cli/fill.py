"""``bothways fill``: the words that a model expects where one is missing."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bothways.cli import output
from bothways.cli.options import DeviceName, Json, ModelSource, RunPrecision, Threads, plain

EXAMPLES = [
    'bothways fill quickstart/pretrained "Return the [MASK] of the list."',
    'bothways fill bert-base-uncased "The [MASK] barked at the [MASK]." --top 3',
    "cat sentences.txt | bothways fill my-bert - --json",
]


def fill(
    model: ModelSource,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT", help="Texts with [MASK], or - for lines of stdin.")],
    top: Annotated[int, plain("--top", "N", "How many words for each place.", min=1)] = 5,
    device: DeviceName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Fill in the masked words of texts, likeliest first."""
    import bothways as bw
    from bothways.cli.reading import lines_or_texts

    loaded = bw.load(model, device=device, precision=precision)
    listed = lines_or_texts(texts)
    answers = [_places(answer) for answer in loaded.fill_mask(listed, top)]
    if json:
        output.as_json([_plain(text, places) for text, places in zip(listed, answers, strict=True)])
        return
    for text, places in zip(listed, answers, strict=True):
        for number, fills in enumerate(places, start=1):
            rows = [(one.token, f"{one.probability:6.1%}", output.bar(one.probability)) for one in fills]
            which = f" (mask {number} of {len(places)})" if len(places) > 1 else ""
            output.table(("token", "probability", ""), rows, f"{text}{which}")
            output.line("")


def _places(answer: Any) -> list[list[Any]]:
    """A list of fills for each mask of a text, also where there is only one mask."""
    return answer if isinstance(answer[0], list) else [answer]


def _plain(text: str, places: list[list[Any]]) -> dict[str, Any]:
    fills = [
        [{"token": one.token, "probability": one.probability, "text": one.text} for one in place] for place in places
    ]
    return {"text": text, "masks": fills}
