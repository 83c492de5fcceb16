"""``bothways adapt``: continue the pre-training of an encoder on text of a domain."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from bothways.cli import output
from bothways.cli.options import (
    BatchTokens,
    DeviceName,
    Dropout,
    Json,
    MaskRate,
    MaxLength,
    MicroTokens,
    Minutes,
    Out,
    Overwrite,
    PrecisionName,
    Resume,
    Schedule,
    Seed,
    Steps,
    Text,
    Threads,
    Warmup,
    data,
    option,
    training,
)
from bothways.cli.reading import named_files
from bothways.errors import BothwaysError

EXAMPLES = [
    "bothways adapt abstracts/ --base my-bert --general wiki.txt --minutes 30 --out bio-bert",
    "bothways adapt abstracts/ --base my-bert --general wiki.txt --vocabulary extend --epochs 1 --out bio-bert",
]


def adapt(
    sources: Annotated[
        list[str] | None, typer.Argument(metavar="SOURCE", help="Files or folders of the domain's text.")
    ] = None,
    *,
    corpus: Annotated[list[str] | None, data("--corpus", "SOURCE", "The same as SOURCE; may be repeated.")] = None,
    base: Annotated[str, option("Model", "--base", "MODEL", "A model to continue with.")],
    general: Annotated[
        list[str] | None, data("--general", "SOURCE", "General text, to replay and to measure; may be repeated.")
    ] = None,
    held_out: Annotated[str | None, data("--held-out", "SOURCE", "The domain's text to measure on.")] = None,
    general_held_out: Annotated[str | None, data("--general-held-out", "SOURCE", "General text to measure on.")] = None,
    text: Text = "text",
    max_length: MaxLength = 128,
    mask_rate: MaskRate = None,
    vocabulary: Annotated[
        Literal["keep", "extend", "own"],
        option("Model", "--vocabulary", None, "The base's, with words of the domain added, or from scratch."),
    ] = "keep",
    new_tokens: Annotated[int, option("Model", "--new-tokens", "N", "Words that are added, at most.")] = 2000,
    replay: Annotated[float, data("--replay", "SHARE", "Of general text in what is read.")] = 0.1,
    minutes: Minutes = None,
    steps: Steps = None,
    epochs: Annotated[float | None, training("--epochs", "N", "Passes over the corpus; one.")] = None,
    batch_tokens: BatchTokens = 4096,
    micro_tokens: MicroTokens = 16_384,
    learning_rate: Annotated[
        float | None, training("--learning-rate", "RATE", "The highest one; half of what suits random weights.")
    ] = None,
    schedule: Schedule = "linear",
    warmup: Warmup = 0.1,
    dropout: Dropout = None,
    seed: Seed = 0,
    precision: PrecisionName = "auto",
    device: DeviceName = None,
    threads: Threads = None,
    out: Out,
    resume: Resume = True,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Adapt an encoder to a domain: read its text, and measure what is gained and what is forgotten."""
    settings = dict(locals())
    import bothways as bw

    for own in ("sources", "corpus", "base", "general", "threads", "json"):
        del settings[own]
    if sources and corpus:
        raise BothwaysError(f"{' '.join(sources)} and --corpus {' '.join(corpus)}: give all text in one way")
    texts = sources or corpus
    if not texts:
        raise BothwaysError("give text of the domain: bothways adapt SOURCE ... --base MODEL --out DIR")
    done = bw.adapt(base, named_files(texts), general=named_files(general) if general else None, **settings)
    result = done.result
    if json:
        output.as_json(result)
        return
    rows = [
        (name, result["before"][name]["bits_per_character"], score["bits_per_character"])
        for name, score in result["after"].items()
    ]
    output.table(("bits a character", "before", "after"), rows)
    output.line(f"\n{result['check']['verdict']}")
    output.line(f"Report: {out / 'adaptation.html'}")
    output.line(f"Next: bothways finetune classify train.csv --base {out} --out my-classifier")
