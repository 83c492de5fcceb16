"""``bothways finetune late``: a vector a token, compared token by token, as ColBERT has it."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.options import Negatives
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Text, TextPair, option

EXAMPLES = [
    "bothways finetune late questions.jsonl --base my-bert --out my-late",
    "bothways finetune late mined.jsonl --base my-bert --width 96 --expand none --out my-late",
]


@command("late")
def late(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    negatives: Negatives = None,
    width: Annotated[int, option("Model", "--width", "N", "Values of a token's vector.")] = 128,
    query_length: Annotated[int, option("Model", "--query-length", "N", "The most tokens of a query.")] = 32,
    expand: Annotated[
        Literal["none", "seen", "unseen"] | None,
        option("Model", "--expand", None, "Fill queries up with mask tokens, seen by the others or not; seen."),
    ] = None,
) -> None:
    """Fine-tune an encoder to give a vector a token, so that texts are found by the best match of each query word."""
