"""WordPiece vocabularies trained by likelihood.

A word is its first character followed by continuations, written with "##": "cars" is c ##a ##r ##s. Each step merges
the pair of neighbouring tokens that raises the likelihood of the corpus most, under the model that draws every token
independently with its relative frequency, and the merged string becomes a token of the vocabulary.

Source: Schuster and Nakajima, Japanese and Korean voice search (2012), section 3; the tokens are used as in BERT.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.progress import Progress, progress
from bothways.text.pairs import Pairs, Score

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LONGEST_WORD = 100  # in characters; the encoder makes [UNK] of longer words, so nothing is learned from them


def likelihood_gain(n: np.ndarray, a: np.ndarray, b: np.ndarray, total: int, same: np.ndarray) -> np.ndarray:
    """How much the unigram log-likelihood of the corpus rises when a pair is merged, in nats.

    With f(x) = x ln x and N tokens in all, the log-likelihood is the sum of f(count) over the tokens less f(N), so

        gain = f(n) + f(a-n) - f(a) + f(b-n) - f(b) - f(N-n) + f(N),

    and for a pair of equal tokens, which loses two of them a merge, f(n) + f(a-2n) - f(a) - f(N-n) + f(N).
    For one and the same pair it falls when N falls.

    Args:
        n: Occurrences of the pair that can be merged.
        a: Occurrences of its first token.
        b: Occurrences of its second token.
        total: Tokens in the corpus, N.
        same: Whether the two tokens are the same one.
    """
    parts = _drop(a, np.where(same, 2 * n, n)) + np.where(same, 0.0, _drop(b, n))
    return n * np.log(n) - parts + _drop(np.asarray(total), n)


def _drop(x: np.ndarray, n: np.ndarray) -> np.ndarray:
    """f(x) - f(x-n), without the cancellation of two large numbers."""
    share = np.minimum(n / x, 1 - 2.0**-53)  # n = x: 0 times a finite number
    return n * np.log(x) - (x - n) * np.log1p(-share)


def ratio(n: np.ndarray, a: np.ndarray, b: np.ndarray, total: int, same: np.ndarray) -> np.ndarray:
    """How much more often two tokens stand together than their counts suggest: n / (a b). Favours rare pairs."""
    return n / (a.astype(np.float64) * b)


SCORES: dict[str, Score] = {"likelihood": likelihood_gain, "ratio": ratio}


def check_settings(
    size: int, special_tokens: Sequence[str], min_frequency: int, alphabet_limit: int, score: str
) -> None:
    """Raises a BothwaysError when these cannot be settings of `train_wordpiece`."""
    if score not in SCORES:
        raise BothwaysError(f"unknown score {score!r}, there are {', '.join(SCORES)}{closest(score, SCORES)}")
    for name, value in (("size", size), ("minimum frequency", min_frequency), ("alphabet limit", alphabet_limit)):
        if value < 1:
            raise BothwaysError(f"the {name} of a vocabulary must be 1 or more, not {value}")
    for token in special_tokens:
        if not token or list(special_tokens).count(token) > 1:
            raise BothwaysError(
                f"the special token {token!r} is {'given twice' if token else 'empty'}: give each one once"
            )


def train_wordpiece(
    word_counts: Mapping[str, int],
    *,
    size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    min_frequency: int = 2,
    alphabet_limit: int = 1000,
    score: str = "likelihood",
) -> list[str]:
    """Trains a WordPiece vocabulary on the words of a corpus.

    The result depends on the words and their counts only, not on their order: where two pairs score the same, the more
    frequent one is merged first, then the one whose strings come first. Under "likelihood" training ends early when no
    merge raises the likelihood any more, since a further one would describe the corpus worse than the tokens there are;
    it also ends when no pair is frequent enough. The vocabulary is then smaller than `size`, and the progress line
    says so.

    Words with a character outside the alphabet and words of more than 100 characters are left out: they are encoded as
    [UNK]. A merge whose string would be a special token, or would begin a word but read as a continuation ("##..."),
    is never made.

    Args:
        word_counts: How often each word occurs, after normalisation and splitting (see `count_words`).
        size: Tokens in the vocabulary.
        special_tokens: Tokens that stand first in the vocabulary and are never made of text.
        min_frequency: The fewest occurrences of a pair that is merged.
        alphabet_limit: How many different characters are kept, the most frequent ones; each is a token at the start of
            a word, inside one, or both, as it occurs.
        score: "likelihood", or "ratio" (see `ratio`).

    Returns:
        The special tokens, the alphabet in order, the merged tokens in the order in which they were merged.

    Raises:
        BothwaysError: There is no word; a setting is out of range; `size` cannot hold the special tokens and the
            alphabet; or a special token is given twice or is a character of the text.
    """
    check_settings(size, special_tokens, min_frequency, alphabet_limit, score)
    codes, lengths, counts = lay_out(word_counts)
    codes, lengths, counts = keep_alphabet(codes, lengths, counts, alphabet_limit)
    names, tokens = _spell(codes, lengths)
    clash = sorted(set(special_tokens) & set(names))
    if clash:
        raise BothwaysError(
            f"the special token {clash[0]!r} is also a character of the text: choose another name for it"
        )
    room = size - len(special_tokens)
    if room < len(names):
        raise BothwaysError(
            f"a vocabulary of {size:,} tokens cannot hold {len(special_tokens)} special tokens and an alphabet of "
            f"{len(names):,}: ask for {len(names) + len(special_tokens):,} or more, or lower the alphabet limit"
        )
    pairs = Pairs(tokens, np.repeat(counts, lengths), np.cumsum(lengths), names, SCORES[score], min_frequency)
    with progress("Training vocabulary", total=size, unit="tokens") as job:
        why = _merge_until(pairs, room, set(special_tokens), score == "likelihood", job)
        job.reach(len(special_tokens) + len(pairs.names), f"{why}, {size:,} asked for" if why else None)
    return [*special_tokens, *pairs.names]


def lay_out(word_counts: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The code points of all words one after the other, the length of each word, the count of each word."""
    words = [word for word, count in word_counts.items() if 0 < len(word) <= LONGEST_WORD and count > 0]
    if not words:
        raise BothwaysError("there is no word to train a vocabulary on: give text")
    codes = np.frombuffer("".join(words).encode("utf-32-le", "surrogatepass"), np.uint32)
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    counts = np.fromiter((word_counts[word] for word in words), np.int64, len(words))
    return codes, lengths, counts


def in_alphabet(codes: np.ndarray, lengths: np.ndarray, counts: np.ndarray, limit: int) -> np.ndarray:
    """``(positions,)`` whether the character is among the `limit` most frequent ones."""
    characters, character_of = np.unique(codes, return_inverse=True)
    uses = np.bincount(character_of, weights=np.repeat(counts, lengths))
    chosen = np.zeros(len(characters), bool)
    chosen[np.lexsort((characters, -uses))[:limit]] = True
    return chosen[character_of]


def keep_alphabet(
    codes: np.ndarray, lengths: np.ndarray, counts: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaves out the words with a character that is not among the `limit` most frequent ones."""
    kept = np.logical_and.reduceat(in_alphabet(codes, lengths, counts, limit), np.cumsum(lengths) - lengths)
    if kept.all():
        return codes, lengths, counts
    if not kept.any():
        raise BothwaysError(f"no word is made of the {limit} most frequent characters alone: raise the alphabet limit")
    return codes[np.repeat(kept, lengths)], lengths[kept], counts[kept]


def _spell(codes: np.ndarray, lengths: np.ndarray) -> tuple[list[str], np.ndarray]:
    """The alphabet as tokens, sorted, and the token of each position."""
    inside = np.ones(len(codes), bool)
    inside[np.cumsum(lengths) - lengths] = False
    symbols, symbol_of = np.unique(codes.astype(np.int64) * 2 + inside, return_inverse=True)
    names = ["##" * (symbol & 1) + chr(symbol >> 1) for symbol in symbols.tolist()]
    order = sorted(range(len(names)), key=names.__getitem__)
    return [names[i] for i in order], np.argsort(order)[symbol_of]


def _merge_until(pairs: Pairs, room: int, special_tokens: set[str], only_gains: bool, job: Progress) -> str:
    """Merges the best pair until there are `room` tokens; returns why it ended before, or an empty string."""
    while len(pairs.names) < room:
        found = pairs.best()
        if found is None:
            return "no pair is frequent enough"
        row, score = found
        if only_gains and score <= 0:
            return "no merge raises the likelihood"
        left, right = pairs.names[pairs.left[row]], pairs.names[pairs.right[row]]
        name = left + right.removeprefix("##")
        if name in special_tokens or (name.startswith("##") and not left.startswith("##")):
            pairs.refuse(row)
            continue
        pairs.merge(row, name)
        if len(pairs.names) % 100 == 0:
            job.reach(len(special_tokens) + len(pairs.names))
    return ""
