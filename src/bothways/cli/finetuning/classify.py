"""``bothways finetune classify``: texts into classes."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair, option

EXAMPLES = [
    "bothways finetune classify train.csv --base my-bert --out my-classifier",
    "bothways finetune classify train.tsv --dev dev.tsv --base bert-base-uncased --text sentence --label polarity"
    " --out polarity",
    "bothways finetune classify --from my-classifier/run.json --seed 1 --out second-classifier",
]


@command("classify")
def classify(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    reads: Annotated[str | None, option("Model", "--reads", "WHAT", "pooled, first or mean: what it looks at.")] = None,
    hidden: Annotated[
        Literal["none", "gelu"] | None, option("Model", "--hidden", None, "A linear classifier, or a hidden layer.")
    ] = None,
) -> None:
    """Fine-tune an encoder to sort texts, or pairs of texts, into classes."""
