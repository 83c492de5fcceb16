"""``bothways corpus``: prepare raw text for pre-training."""

from __future__ import annotations

from typing import Annotated

from bothways.cli import output
from bothways.cli.options import Json, Out, Source, Text, plain

EXAMPLES = [
    "bothways corpus prepare texts/ --tokenizer my-tokenizer --out my-corpus",
    "bothways corpus prepare dump.jsonl.zst --text body --tokenizer my-tokenizer --out my-corpus",
]


def prepare(
    source: Source,
    *,
    tokenizer: Annotated[str, plain("--tokenizer", "FOLDER", "What makes the tokens.")],
    shard_tokens: Annotated[int, plain("--shard-tokens", "N", "Tokens in a file of the corpus.")] = 8_000_000,
    text: Text = "text",
    out: Out,
    json: Json = False,
) -> None:
    """Cut raw text into documents, sentences and tokens, once, in constant memory; interrupted work goes on."""
    from bothways.text.prepare import prepare as prepare_corpus
    from bothways.text.tokenizer import Tokenizer

    corpus = prepare_corpus(
        output.one(source), Tokenizer.load(tokenizer), out, shard_tokens=shard_tokens, text=text or "text"
    )
    figures = {
        "out": out,
        "documents": corpus.documents,
        "sentences": corpus.sentences,
        "tokens": corpus.tokens,
        "fingerprint": corpus.fingerprint,
    }
    if json:
        output.as_json(figures)
    else:
        output.facts(figures)
        output.line(f"\nNext: bothways pretrain {out} --size mini --minutes 20 --out my-bert")
