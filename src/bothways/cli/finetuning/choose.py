"""``bothways finetune choose``: which of several texts goes best with a prompt."""

from __future__ import annotations

from typing import Annotated

from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, data

EXAMPLES = [
    "bothways finetune choose swag-train.csv --dev swag-val.csv --base bert-base-uncased --out swag",
    "bothways finetune choose exam.jsonl --base my-bert --prompt question --choices options --label answer --out exam",
]


@command("choose")
def choose(
    *,
    prompt: Annotated[str | None, data("--prompt", "COLUMN", "The column of prompts.")] = None,
    choices: Annotated[str | None, data("--choices", "COLUMN", "The column of lists of choices.")] = None,
    label: Label = None,
) -> None:
    """Fine-tune an encoder to choose among several texts: questions with options, endings of a story."""
