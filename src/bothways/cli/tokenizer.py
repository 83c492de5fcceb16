"""``bothways tokenizer``: train a vocabulary, or look into one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from bothways.cli import output
from bothways.cli.options import Json, MaxLength, Out, Overwrite, Source, Text, TruncationPolicy, plain
from bothways.cli.reading import named_files

TRAIN_EXAMPLES = [
    "bothways tokenizer train texts/ --vocab-size 30000 --out my-tokenizer",
    "bothways tokenizer train reviews.parquet --text review --cased --out my-tokenizer",
    "bothways tokenizer train texts/ --kind unigram --vocab-size 8000 --out my-tokenizer",
    "zcat dump.txt.gz | bothways tokenizer train - --out my-tokenizer",
]
SHOW_EXAMPLES = [
    "bothways tokenizer show my-tokenizer",
    'bothways tokenizer show my-tokenizer "unbelievably good"',
    'bothways tokenizer show my-tokenizer "first text" --pair "second text" --json',
]


def train(
    source: Source,
    *,
    text: Text = "text",
    vocab_size: Annotated[int, plain("--vocab-size", "N", "Tokens in the vocabulary.")] = 30_000,
    kind: Annotated[
        Literal["wordpiece", "bpe", "unigram"], plain("--kind", None, "As BERT's, RoBERTa's or ALBERT's.")
    ] = "wordpiece",
    lowercase: Annotated[bool, plain("--uncased/--cased", None, "Whether letters become lower case.")] = True,
    strip_accents: Annotated[
        bool | None, plain("--strip-accents/--keep-accents", None, "Stripped where letters become lower case.")
    ] = None,
    chinese_characters: Annotated[
        bool | None,
        plain("--split-chinese/--keep-chinese", None, "Whether each Chinese character is a word; split by wordpiece."),
    ] = None,
    min_frequency: Annotated[int, plain("--min-frequency", "N", "Rarer pairs are not merged.")] = 2,
    alphabet_limit: Annotated[
        int | None, plain("--alphabet-limit", "N", "The most characters kept: 1000, of bpe 256 bytes.")
    ] = None,
    score: Annotated[
        Literal["likelihood", "ratio"] | None,
        plain("--score", None, "What wordpiece chooses merges by: likelihood, or ratio, which favours rare pairs."),
    ] = None,
    out: Out,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Train a vocabulary on raw text: WordPiece by likelihood, byte-level BPE or Unigram."""
    settings = dict(locals())
    import bothways as bw

    for own in ("source", "json"):
        del settings[own]
    tokenizer = bw.train_tokenizer(named_files(source), **settings)
    if json:
        output.as_json({"out": out, **_figures(tokenizer)})
    else:
        output.line(f"{tokenizer.size:,} tokens in {out}")
        output.line(f'Look into it: bothways tokenizer show {out} "some text"')


def show(
    folder: Annotated[str, typer.Argument(metavar="TOKENIZER", help="A folder, or a file that holds a tokenizer.")],
    texts: Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="Texts to cut into tokens.")] = None,
    pair: Annotated[str | None, plain("--pair", "TEXT", "A second text, for each of the texts.")] = None,
    max_length: MaxLength = None,
    truncation: TruncationPolicy = "warn",
    json: Json = False,
) -> None:
    """Show a vocabulary's figures, and how texts are cut into tokens: ids, offsets and the text they cover."""
    from bothways.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(folder)
    cut = [one for text in texts or () for one in _cut(tokenizer, text, pair, max_length, truncation)]
    if json:
        output.as_json({"vocabulary": _figures(tokenizer), "texts": cut})
        return
    output.facts({name.replace("_", " "): value for name, value in _figures(tokenizer).items()})
    for one in cut:
        output.line("")
        rows = zip(one["ids"], one["tokens"], one["offsets"], one["covers"], one["segments"], strict=True)
        listed = [(str(i), token, "" if a == b else f"{a}–{b}", covers, str(s)) for i, token, (a, b), covers, s in rows]
        columns = ("id", "token", "offsets", "covers", "segment")
        shown = len(columns) if pair is not None else len(columns) - 1
        output.table(columns[:shown], [row[:shown] for row in listed], f"{len(listed)} tokens: {one['text']}")


def _cut(tokenizer: Any, text: str, pair: str | None, max_length: int | None, truncation: str) -> list[dict[str, Any]]:
    """One entry for the text; several when it is read in windows."""
    from bothways.text.encoded import SECOND

    encoded = tokenizer.encode(
        [text],
        None if pair is None else [pair],
        max_length=max_length,
        truncation=truncation,
        offsets=True,
    )
    found = []
    for begin, end in zip(encoded.starts, encoded.starts[1:], strict=False):
        ids, segments = encoded.token_ids[begin:end].tolist(), encoded.segment_ids[begin:end].tolist()
        offsets = encoded.offsets[begin:end].tolist()
        seconds = (encoded.sources[begin:end] == SECOND).tolist()
        one = {
            "text": text if pair is None else f"{text} | {pair}",
            "tokens": [tokenizer.tokens[place] for place in ids],
            "ids": ids,
            "segments": segments,
            "offsets": offsets,
            "word_ids": encoded.word_ids[begin:end].tolist(),
            "covers": [(str(pair) if of_pair else text)[a:b] for of_pair, (a, b) in zip(seconds, offsets, strict=True)],
        }
        found.append(one)
    return found


def _figures(tokenizer: Any) -> dict[str, Any]:
    ordinary = [token for place, token in enumerate(tokenizer.tokens) if token and place not in tokenizer.special_ids]
    read = [tokenizer.spelling.read(token) for token in ordinary]
    return {
        "size": tokenizer.size,
        "kind": type(tokenizer.backend.model).__name__,
        "lowercase": tokenizer.lowercase,
        "special_tokens": [tokenizer.tokens[place] for place in sorted(tokenizer.special_ids)],
        "continuing": sum(reading.glued for reading in read),
        "characters": len({reading.text for reading in read if len(reading.text) == 1}),
        "longest": sorted({reading.text for reading in read}, key=lambda text: (-len(text), text))[:5],
        "max_length": tokenizer.max_length,
        "fingerprint": tokenizer.fingerprint,
    }
