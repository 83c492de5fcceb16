"""``bothways finetune rerank``: a cross-encoder, which reads query and text together."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.options import Hidden, Reads
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair, training

EXAMPLES = [
    "bothways finetune rerank answers.csv --base my-bert --out my-reranker",
    "bothways finetune rerank similar.csv --loss regression --base my-bert --out my-scorer",
    "bothways finetune rerank triplets.jsonl --loss softmax --list-size 8 --base my-bert --out my-reranker",
]

Loss = Annotated[
    Literal["binary", "regression", "softmax", "listnet", "lambda"],
    training("--loss", None, "Pairs are relevant or not, or have a score; else the texts of a query are compared."),
]
ListSize = Annotated[int, training("--list-size", "N", "The most texts of a query that are compared in a step.")]


@command("rerank")
def rerank(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    loss: Loss = "binary",
    list_size: ListSize = 8,
    reads: Reads = None,
    hidden: Hidden = None,
) -> None:
    """Fine-tune a cross-encoder on queries with texts and labels, or with texts that answer and texts that do not."""
