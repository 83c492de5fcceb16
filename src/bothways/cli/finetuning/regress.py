"""``bothways finetune regress``: texts, or pairs of texts, to numbers."""

from __future__ import annotations

from bothways.cli.finetuning.options import Hidden, Markers, Reads, Symmetric
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Label, Text, TextPair

EXAMPLES = [
    "bothways finetune regress similar.csv --base my-bert --out my-similarity",
    "bothways finetune regress reviews.jsonl --text review --label stars --base my-bert --out my-stars",
]


@command("regress")
def regress(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    markers: Markers = None,
    symmetric: Symmetric = False,
    reads: Reads = None,
    hidden: Hidden = None,
) -> None:
    """Fine-tune an encoder to score texts, or pairs of texts, on any range."""
