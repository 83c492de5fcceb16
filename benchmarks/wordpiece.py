"""WordPiece trained by likelihood against the frequency-trained vocabulary of `tokenizers`, on the same text.

    python benchmarks/wordpiece.py --text train.txt.gz --held-out valid.txt.gz

The `tokenizers` library trains byte-pair merges (the most frequent pair first) under the name of WordPiece. Both sides
get the same normalisation, splitting, special tokens, minimum frequency (2) and alphabet limit (1,000), each in a fresh
process, reading and counting included. `tokenizers` uses every core it finds, Bothways one.

What is measured on the held-out text, with greedy longest-match encoding as BERT does it:

- tokens per word (fertility) and words that become [UNK];
- characters per token;
- bits per word under the unigram model: tokens drawn independently, with the frequencies they have in the training text
  (one added to each), the likelihood that our training raises. Held-out and on the training text itself.
- unused: tokens of the vocabulary that encoding the training text never needs.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import multiprocessing
import os
import resource
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from bothways.text.normalize import Normalization
from bothways.text.word_counts import count_words
from bothways.text.wordpiece import LONGEST_WORD, SPECIAL_TOKENS

SHARED = Path(os.environ.get("BOTHWAYS_SHARED", Path(__file__).resolve().parents[2] / "shared"))
SLICE = SHARED / "data" / "wikipedia-en-slice"


def lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        yield from file


def train_ours(path: Path, size: int, score: str) -> list[str]:
    from bothways.text.train import train_tokenizer

    return train_tokenizer(path, vocab_size=size, score=score).tokens


def train_theirs(path: Path, size: int) -> list[str]:
    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = Normalization().normalizer(), Normalization().splitter()
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        min_frequency=2,
        limit_alphabet=1000,
        special_tokens=list(SPECIAL_TOKENS),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(path), trainer)
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


def measured(job: tuple[str, Path, int]) -> tuple[list[str], float, float]:
    """Trains one vocabulary; runs in a process of its own. Returns tokens, seconds and peak memory in MB."""
    kind, path, size = job
    began = time.perf_counter()
    tokens = train_theirs(path, size) if kind == "frequency" else train_ours(path, size, kind)
    return tokens, time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def encode(words: Counter[str], tokens: list[str]) -> tuple[Counter[str], dict[str, float]]:
    """The counts of tokens when the words are encoded, and what was counted on the way."""
    from tokenizers import models

    model = models.WordPiece(
        vocab={token: i for i, token in enumerate(tokens)}, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD
    )
    used: Counter[str] = Counter()
    unknown = characters = 0
    for word, count in words.items():
        pieces = [token.value for token in model.tokenize(word)]
        for piece in pieces:
            used[piece] += count
        if pieces == ["[UNK]"]:
            unknown += count
        else:
            characters += count * len(word)
    every = used.total()
    known = every - unknown
    total = words.total()
    return used, {"fertility": every / total, "unknown": unknown / total, "length": characters / known}


def bits(used: Counter[str], trained: Counter[str], size: int, words: int) -> float:
    """Bits per word of the tokens `used`, by their frequencies in the training text with one added to each."""
    total = trained.total() + size
    return -sum(n * math.log2((trained[token] + 1) / total) for token, n in used.items()) / words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=SLICE / "train.txt.gz")
    parser.add_argument("--held-out", type=Path, default=SLICE / "valid.txt.gz")
    parser.add_argument("--sizes", type=int, nargs="+", default=[30_000, 8_000])
    parser.add_argument("--kinds", nargs="+", default=["likelihood", "ratio", "frequency"])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    asked = parser.parse_args()

    train, held = count_words(lines(asked.text)), count_words(lines(asked.held_out))
    print(f"training text: {train.total():,} words, {len(train):,} different; held out: {held.total():,} words")
    print(
        f"{'tokens':>7} {'trained by':<11} {'s':>6} {'MB':>6} {'tokens/word':>12} {'[UNK]':>8} {'chars/token':>12}",
        end="",
    )
    print(f" {'bits/word':>10} {'(train)':>8} {'unused':>7}")
    figures = []
    for size in asked.sizes:
        for kind in asked.kinds:
            with multiprocessing.get_context("spawn").Pool(1) as process:
                tokens, seconds, memory = process.apply(measured, ((kind, asked.text, size),))
            trained, _ = encode(train, tokens)
            used, row = encode(held, tokens)
            row |= {
                "tokens": len(tokens),
                "kind": kind,
                "seconds": seconds,
                "megabytes": memory,
                "bits": bits(used, trained, len(tokens), held.total()),
                "bits_train": bits(trained, trained, len(tokens), train.total()),
                "unused": sum(token not in trained for token in tokens),
            }
            figures.append(row)
            print(
                "{tokens:>7,} {kind:<11} {seconds:>6.1f} {megabytes:>6,.0f} {fertility:>12.4f} {unknown:>8.3%} "
                "{length:>12.3f} {bits:>10.3f} {bits_train:>8.3f} {unused:>7,}".format(**row),
                flush=True,
            )
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
