"""``bothways finetune answer``: answers to questions, as parts of a text."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.shared import command
from bothways.cli.options import data

EXAMPLES = [
    "bothways finetune answer train-v2.0.json --dev dev-v2.0.json --base bert-base-uncased --max-length 384"
    " --stride 128 --out squad2",
    "bothways finetune answer questions.jsonl --base my-bert --max-length 256 --out my-answerer",
    "bothways finetune answer nq-train.jsonl.gz --base roberta-base --max-length 512 --empty-windows 0.02 --out nq",
]


@command("answer")
def answer(
    *,
    stride: Annotated[
        int | None, data("--stride", "N", "Tokens from one window of a text to the next; three quarters of it.")
    ] = None,
    longest_answer: Annotated[int, data("--longest-answer", "N", "The most tokens of an answer.")] = 30,
    places: Annotated[
        Literal["first", "all"], data("--places", None, "Which places of an answer are learned from.")
    ] = "first",
    empty_windows: Annotated[
        float, data("--empty-windows", "SHARE", "Of the windows without the answer, how many are learned from.")
    ] = 1.0,
) -> None:
    """Fine-tune an encoder to find the answers to questions in texts of any length."""
