"""What a corpus is like, in a few numbers that a run's losses can be compared with.

Counting looks at tokens spread evenly over the corpus. Repeated text is found by content: documents are cut into blocks
of a few sentences at places that follow from the lengths of the sentences alone, so the same text is cut alike wherever
it stands. Of a large corpus only the blocks are read whose lengths fall into one class of many. Whatever comes twice
falls into its class twice, so the share that is found is that of the whole.

Shapes: N tokens that are looked at, B blocks, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bothways.text.shards import Corpus
    from bothways.text.tokenizer import Tokenizer

_RUN = 1 << 16  # tokens read at once
_SENTENCES = 1 << 20  # sentences whose boundaries are read at once
_BLOCK = 4  # sentences in a block, on average
_SHORTEST, _LONGEST = 16, 4096  # tokens of a block: shorter ones repeat by chance, of longer ones the start is compared
_ALLOWED = 4  # times as many tokens as were asked for, where the classes are of unequal size
_PRIMES = tuple(np.uint64(odd) for odd in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93))


def corpus_facts(corpus: Corpus, *, most: int = 2_000_000) -> dict[str, float]:
    """What a corpus is like.

    Args:
        corpus: A prepared corpus.
        most: How many tokens are looked at, at most; memory is bounded by it.

    Returns:
        ``tokens``, ``documents``, ``sentences``, and ``document_tokens``, the mean length of a document;
        ``vocabulary``, the size of the vocabulary, and ``used``, the share of it that occurs in ``looked_at`` tokens;
        ``unknown_share`` of the tokens, which stand for what the vocabulary cannot spell;
        ``tokens_per_word``, where a word is what the tokenizer takes for one;
        ``unigram_loss`` (nats) and ``unigram_accuracy`` of guessing by the frequencies of tokens alone;
        ``duplicate_share`` of the text, in blocks of a few sentences, that stands in the corpus more than once.
    """
    tokenizer = corpus.tokenizer
    counts_V = token_counts(corpus, tokenizer.size, most)
    ordinary_V = np.ones(tokenizer.size, dtype=bool)
    ordinary_V[list(tokenizer.special_ids)] = False
    seen = counts_V[ordinary_V]
    shares = seen[seen > 0] / max(int(seen.sum()), 1)
    words = int(counts_V[_begins_word(tokenizer)].sum())
    return {
        "tokens": corpus.tokens,
        "documents": corpus.documents,
        "sentences": corpus.sentences,
        "document_tokens": corpus.tokens / max(corpus.documents, 1),
        "vocabulary": tokenizer.size,
        "looked_at": int(counts_V.sum()),
        "used": float((seen > 0).mean()) if len(seen) else 0.0,
        "unknown_share": corpus.index.total("unknown") / max(corpus.tokens, 1),
        "tokens_per_word": int(counts_V.sum()) / max(words, 1),
        "unigram_loss": float(-(shares * np.log(shares)).sum()),
        "unigram_accuracy": float(shares.max(initial=0.0)),
        "duplicate_share": _duplicate_share(corpus, most),
    }


def token_counts(corpus: Corpus, size: int, most: int) -> np.ndarray:
    """``(V,)`` how often each token occurs in runs of text that are spread evenly, of at most so many tokens."""
    counts_V = np.zeros(size, dtype=np.int64)
    whole = -(-corpus.at_hand // _RUN)
    for run in np.unique(np.linspace(0, whole - 1, min(whole, max(1, most // _RUN))).astype(np.int64)):
        begin, end = int(run) * _RUN, min((int(run) + 1) * _RUN, corpus.at_hand)
        if corpus.readable(np.array([begin]), np.array([end])).all():
            counts_V += np.bincount(corpus.read(begin, end), minlength=size)
    return counts_V


def _begins_word(tokenizer: Tokenizer) -> np.ndarray:
    """``(V,)`` whether a token begins a word."""
    return np.array([not tokenizer.read(place).glued for place in range(tokenizer.size)])


def _duplicate_share(corpus: Corpus, most: int) -> float:
    """The share of tokens that stand in blocks whose content comes more than once."""
    classes = np.uint64(max(1, -(-corpus.at_hand // most)))
    found, left = [], _ALLOWED * most  # texts whose sentences are all of one length are of one class
    for part in _blocks(corpus, classes):
        found.append(part)
        left -= int(part[0].sum())
        if left < 0:
            break
    lengths, contents = (np.concatenate(column) for column in zip(*found, strict=True))
    _, which, times = np.unique(contents, return_inverse=True, return_counts=True)
    return float(lengths[times[which] > 1].sum() / max(int(lengths.sum()), 1))


def _blocks(corpus: Corpus, classes: np.uint64) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Length and content, as a number, of the blocks of one class, some thousand sentences at a time."""
    sentences = int(np.searchsorted(corpus.sentence_starts, corpus.at_hand))
    for first in range(0, sentences, _SENTENCES):
        starts = np.asarray(corpus.sentence_starts[first : min(first + _SENTENCES, sentences) + 1], dtype=np.int64)
        lengths = np.diff(starts)
        begins = _cuts(corpus, lengths, first)
        ends = np.append(begins[1:], len(lengths))
        shape = np.add.reduceat(_mixed(lengths, np.arange(len(lengths)) - np.repeat(begins, ends - begins)), begins)
        sizes = starts[ends] - starts[begins]
        chosen = (shape % classes == 0) & (sizes >= _SHORTEST) & corpus.readable(starts[begins], starts[ends])
        yield sizes[chosen], _contents(corpus, starts[begins][chosen], sizes[chosen]) + shape[chosen]


def _cuts(corpus: Corpus, lengths: np.ndarray, first: int) -> np.ndarray:
    """Where blocks begin among some sentences: with each document, and wherever two lengths say so."""
    count = len(lengths)
    begun = np.searchsorted(corpus.document_starts, (first, first + count))
    documents = np.unique([0, *(np.asarray(corpus.document_starts[begun[0] : begun[1]]) - first)])
    cut = _mixed(np.roll(lengths, 1), lengths) % np.uint64(_BLOCK) == 0
    if not 0.1 < cut.mean() < 0.5:  # lengths that hardly differ say nothing
        cut = (np.arange(count) - np.repeat(documents, np.diff(documents, append=count))) % _BLOCK == 0
    cut[documents] = True
    return np.flatnonzero(cut)


def _contents(corpus: Corpus, begins: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """``(B,)`` a number for the tokens of each block; equal for equal blocks, else different but for an accident."""
    contents = np.empty(len(begins), dtype=np.uint64)
    lengths = np.minimum(sizes, _LONGEST)
    done = 0
    while done < len(begins):
        upto = done + max(1, int(np.searchsorted(np.cumsum(lengths[done:]), _RUN)))
        here = lengths[done:upto]
        token_ids = np.concatenate(
            [corpus.read(int(a), int(a + n)) for a, n in zip(begins[done:upto], here, strict=True)]
        )
        offsets = np.concatenate(([0], np.cumsum(here)[:-1]))
        places = np.arange(len(token_ids)) - np.repeat(offsets, here)
        contents[done:upto] = np.add.reduceat(_mixed(token_ids, places), offsets)
        done = upto
    return contents


def _mixed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A number of 64 bits, as if drawn at random, for each pair of numbers."""
    mixed = one.astype(np.uint64) * _PRIMES[0] + other.astype(np.uint64) * _PRIMES[1] + _PRIMES[2]
    for shift in (32, 29):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= _PRIMES[2]
    return mixed ^ (mixed >> np.uint64(32))
