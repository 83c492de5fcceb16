"""``bothways finetune sparse``: sparse vectors over the vocabulary, as SPLADE has them."""

from __future__ import annotations

from typing import Annotated, Literal

from bothways.cli.finetuning.options import Negatives
from bothways.cli.finetuning.shared import command
from bothways.cli.options import Text, TextPair, option, training

EXAMPLES = [
    "bothways finetune sparse questions.jsonl --base my-bert --out my-sparse",
    "bothways finetune sparse mined.jsonl --base my-bert --document-flops 1e-4 --out my-sparse",
]


@command("sparse")
def sparse(
    *,
    text: Text = None,
    text_pair: TextPair = None,
    negatives: Negatives = None,
    way: Annotated[
        Literal["max", "sum", "max_log", "sum_log"], option("Model", "--way", None, "How tokens become a vector.")
    ] = "max",
    query_flops: Annotated[float, training("--query-flops", "X", "What sparseness of queries counts.")] = 5e-5,
    document_flops: Annotated[float, training("--document-flops", "X", "What sparseness of texts counts.")] = 3e-5,
) -> None:
    """Fine-tune a masked-token model so that texts become weights of words, for search through an inverted index."""
