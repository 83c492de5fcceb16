"""``bothways rerank``: the texts of a file in the order in which they answer a query."""

from __future__ import annotations

from typing import Annotated

import typer

from bothways.cli import output
from bothways.cli.options import DeviceName, EngineName, Json, Lines, ModelSource, RunPrecision, Text, Threads, written

EXAMPLES = [
    'bothways rerank my-reranker "how do I read a file" answers.txt --top 5',
    'bothways rerank cross-encoder/ms-marco-MiniLM-L6-v2 "who wrote Emma" passages.jsonl --text passage --json',
]


def rerank(
    model: ModelSource,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What the texts are to answer.")],
    source: Annotated[str, typer.Argument(metavar="FILE", help="The texts: a table, lines, or - for standard input.")],
    text: Text = None,
    lines: Lines = False,
    top: Annotated[int, written("--top", "N", "How many texts are shown.", min=1)] = 10,
    device: DeviceName = None,
    engine: EngineName = None,
    precision: RunPrecision = "float32",
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Put the texts of a file in the order in which they answer a query, best first.

    For many queries write a table of queries and texts, or lists of texts, and ask bothways predict.
    """
    import bothways as bw
    from bothways.use.predictions.shared import Wish, ask_texts

    loaded = bw.load(model, device=device, engine=engine, precision=precision)
    texts = [asked.inputs[0] for asked in ask_texts(source, Wish(text=text, lines=lines), pairs=False)]
    ranked = loaded.rerank(query, texts, top)
    if json:
        output.as_json(ranked)
        return
    rows = [(one.score, one.place + 1, output.excerpt(one.text, query)) for one in ranked]
    output.table(("score", "row", "text"), rows)
