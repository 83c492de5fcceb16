"""``bothways finetune tag``: words into tags."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, data, option

EXAMPLES = [
    "bothways finetune tag train.conll --dev dev.conll --base my-bert --out my-tagger",
    "bothways finetune tag train.jsonl --label pos --base bert-base-cased --crf --out parts-of-speech",
    "bothways finetune tag marked.jsonl --base bert-base-cased --align expand --out names",
]
Scheme = Literal["BIO", "IOB1", "BIOES", "BILOU", "words"]


@command("tag")
def tag(
    *,
    text: Text = None,
    label: Label = None,
    scheme: Annotated[Scheme | None, data("--scheme", None, "How tags write spans; told from the tags.")] = None,
    align: Annotated[
        Literal["strict", "expand"], data("--align", None, "Marked parts that end inside words: refuse, or widen.")
    ] = "strict",
    overlap: Annotated[
        int | None, data("--overlap", "TOKENS", "Shared by neighbouring windows of a long text; a quarter.")
    ] = None,
    crf: Annotated[bool, option("Model", "--crf", None, "Learn which tags follow each other, too.")] = False,
) -> None:
    """Fine-tune an encoder to tag words: names, parts of speech, chunks; texts of any length."""
