"""Unigram vocabularies trained by expectation and maximisation.

A text is a product of independent pieces, and a word stands for all the ways of cutting it. Beginning with the
substrings that cover most of the corpus, each round estimates the probability of every piece from all the cuts, and
drops the quarter of the pieces whose loss would lower the likelihood of the corpus least, until there are as many as
asked for. Single characters stay, so that every word can be cut.

The `tokenizers` library trains such vocabularies too, but not the same one twice, for it sums in the order of a hash
table; this depends on the words and their counts only.

Shapes: N characters of all distinct words in a row, W words, P pieces, E places where a piece fits, L its length.

Source: Kudo, Subword Regularization (2018), section 3.2; Kudo and Richardson, SentencePiece (2018).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bothways.errors import BothwaysError
from bothways.progress import progress
from bothways.text.wordpiece import in_alphabet, lay_out

LONGEST_PIECE = 16  # in characters
LONGEST_WORD = 64  # longer stretches without a space are cut
_SEEDS = 10  # pieces to begin with, for each one that stays
_STAY = 0.75  # the share of the pieces that stay in a round
_SPACE = ord("▁")


class Words(NamedTuple):
    """The distinct words in a row.

    Attributes:
        letters: ``(N,)`` the character at each place, as a number below `alphabet`.
        starts: ``(W,)`` the place of each word's first character.
        lengths: ``(W,)`` its characters.
        counts: ``(W,)`` how often it occurs.
        reach: ``(N,)`` the longest piece that may begin at a place: none goes on from letters to digits or signs.
        alphabet: How many different characters there are.
    """

    letters: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray
    reach: np.ndarray
    alphabet: int


class Lattice(NamedTuple):
    """Where pieces fit, in the order in which words are read; nodes are the gaps between characters.

    Attributes:
        tails: ``(E,)`` the node at which the piece begins.
        heads: ``(E,)`` the node at which it ends.
        pieces: ``(E,)`` the piece.
        steps: Where each run of heads at the same distance from the beginning of their words ends.
    """

    tails: np.ndarray
    heads: np.ndarray
    pieces: np.ndarray
    steps: np.ndarray


def train_unigram(
    word_counts: Mapping[str, int],
    *,
    size: int,
    special_tokens: Sequence[str],
    min_frequency: int = 2,
    alphabet_limit: int = 1000,
) -> list[tuple[str, float]]:
    """Trains a Unigram vocabulary on the words of a corpus.

    Args:
        word_counts: How often each word occurs; those that a space goes before begin with "▁".
        size: Entries of the vocabulary, special tokens included. There are fewer where the text has fewer pieces.
        special_tokens: Tokens that stand first and are never made of text.
        min_frequency: The fewest occurrences of a piece of several characters.
        alphabet_limit: How many different characters are kept, the most frequent ones. Words are cut at others, which
            are no pieces.

    Returns:
        The pieces with their log-probabilities, likeliest first; special tokens are not among them.

    Raises:
        BothwaysError: There is no word, or `size` cannot hold the special tokens and the characters.
    """
    words, characters = _words(word_counts, alphabet_limit)
    room = size - len(special_tokens)
    if room < len(characters):
        raise BothwaysError(
            f"a vocabulary of {size:,} tokens cannot hold {len(special_tokens)} special tokens and an alphabet of "
            f"{len(characters):,}: ask for {len(characters) + len(special_tokens):,} or more, or lower the alphabet "
            "limit"
        )
    with progress("Training vocabulary", unit="pieces") as job:
        at_LN, pieces_P2, scores_P = _seeds(words, room * _SEEDS, min_frequency)
        while True:
            lattice = _lattice(words, at_LN)
            for _ in range(2):
                counts_P = expected(words, lattice, scores_P)
                scores_P = _log_shares(counts_P)
            if len(pieces_P2) <= room:
                break
            keep = _worth_keeping(at_LN, pieces_P2, scores_P, counts_P, words.alphabet, room)
            number = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
            at_LN = np.where(at_LN < 0, -1, number[at_LN])
            pieces_P2, scores_P = pieces_P2[keep], scores_P[keep]
            job.reach(len(pieces_P2))
        job.reach(len(pieces_P2))
    texts = ["".join(characters[letter] for letter in words.letters[a : a + n]) for a, n in pieces_P2.tolist()]
    made = [(text, round(score, 6)) for text, score in zip(texts, scores_P.tolist(), strict=True)]
    clash = sorted(set(special_tokens) & set(texts))
    return sorted((one for one in made if one[0] not in clash), key=lambda one: (-one[1], one[0]))


def _words(word_counts: Mapping[str, int], alphabet_limit: int) -> tuple[Words, list[str]]:
    cut: dict[str, int] = {}
    for word in sorted(word_counts):
        for begin in range(0, len(word), LONGEST_WORD):
            part = word[begin : begin + LONGEST_WORD]
            cut[part] = cut.get(part, 0) + word_counts[word]
    codes, lengths, counts = _cut_at_rare(*lay_out(cut), alphabet_limit)
    distinct, letters = np.unique(codes, return_inverse=True)
    characters = [chr(code) for code in distinct]
    starts = np.cumsum(lengths) - lengths
    kinds = np.array([_kind(character) for character in characters])[letters]
    begins = np.ones(len(letters), dtype=bool)  # where a piece may begin, but not go on
    begins[1:] = kinds[1:] != kinds[:-1]
    space_first = codes[starts] == _SPACE
    begins[starts[space_first & (lengths > 1)] + 1] = False  # the space goes on into whatever word
    begins[starts] = True
    ends = np.append(np.flatnonzero(begins), len(letters))
    reach = ends[np.searchsorted(ends, np.arange(len(letters)), side="right")] - np.arange(len(letters))
    words = Words(letters, starts, lengths, counts, np.minimum(reach, LONGEST_PIECE), len(characters))
    return words, characters


def _cut_at_rare(
    codes: np.ndarray, lengths: np.ndarray, counts: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leaves out the characters that are not among the `limit` most frequent ones; words fall apart there.

    As in SentencePiece: a "word" of a script without spaces is a whole stretch, too much to lose for a character.
    """
    kept = in_alphabet(codes, lengths, counts, limit)
    if kept.all():
        return codes, lengths, counts
    begins = np.append(True, ~kept[:-1])
    begins[np.cumsum(lengths) - lengths] = True
    begins &= kept
    return codes[kept], np.bincount(np.cumsum(begins)[kept] - 1), np.repeat(counts, lengths)[begins]


def _kind(character: str) -> str:
    category = unicodedata.category(character)[0]
    return "L" if category == "M" else category if category in "LN" else "S"  # marks belong to their letters


def _seeds(words: Words, most: int, min_frequency: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The characters, and the substrings of one kind of characters that cover most of the corpus.

    A substring that nearly always goes on with the same character is none; its longer form is.

    Returns:
        ``(16, N)`` the piece of each length that begins at each place, or -1; ``(P, 2)`` place and length of one
        occurrence of each piece, characters first; ``(P,)`` log-probabilities to begin with.
    """
    places = np.arange(len(words.letters))
    weights = np.repeat(words.counts, words.lengths).astype(np.float64)
    at_LN = np.full((LONGEST_PIECE, len(places)), -1, dtype=np.int32)
    at_LN[0] = words.letters
    firsts, covers = [np.unique(words.letters, return_index=True)[1]], [np.bincount(words.letters, weights)]
    alive = places
    for length in range(2, LONGEST_PIECE + 1):
        alive = alive[words.reach[alive] >= length]
        shorter = at_LN[length - 2, alive]
        keys = shorter.astype(np.int64) * words.alphabet + words.letters[alive + length - 1]
        found, first, ids = np.unique(keys, return_index=True, return_inverse=True)
        frequencies = np.bincount(ids, weights[alive], minlength=len(found))
        prefix = found // words.alphabet
        longest_form = np.zeros(len(covers[-1]))
        np.maximum.at(longest_form, prefix, frequencies)
        if length > 2:
            covers[-1] = np.where(longest_form >= covers[-1] / (length - 1), 0.0, covers[-1])
        frequent = frequencies >= min_frequency
        renumbered = np.where(frequent, np.cumsum(frequent) - 1, -1)
        at_LN[length - 1, alive] = renumbered[ids]
        firsts.append(alive[first[frequent]])
        covers.append(frequencies[frequent] * length)
        alive = alive[frequent[ids]]
        if not len(alive):
            break
    return _choose(at_LN, firsts, covers, most)


def _choose(
    at_LN: np.ndarray, firsts: list[np.ndarray], covers: list[np.ndarray], most: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keeps the characters and the substrings that cover most, numbered through all lengths."""
    cover = np.concatenate(covers)
    ranked = np.argsort(-cover[len(covers[0]) :], kind="stable") + len(covers[0])
    keep = np.zeros(len(cover), dtype=bool)
    keep[: len(covers[0])] = True
    keep[ranked[:most]] = True
    keep &= cover > 0
    number = np.where(keep, np.cumsum(keep) - 1, -1).astype(np.int32)
    begin = 0
    for length, first in enumerate(firsts, start=1):
        ids = at_LN[length - 1]
        at_LN[length - 1] = np.where(ids < 0, -1, number[begin + ids])
        begin += len(first)
    lengths = np.repeat(np.arange(1, len(firsts) + 1), [len(first) for first in firsts])
    pieces_P2 = np.stack((np.concatenate(firsts), lengths), axis=1)[keep]
    return at_LN, pieces_P2, np.log(cover[keep] / cover[keep].sum())


def _lattice(words: Words, at_LN: np.ndarray) -> Lattice:
    """All places where pieces fit, ordered by how far from the beginning of their words they end."""
    lengths, places = np.nonzero(at_LN >= 0)
    word = np.repeat(np.arange(len(words.lengths), dtype=np.int32), words.lengths)[places]
    ends = places - words.starts[word] + lengths + 1
    order = np.lexsort((places, ends))
    tails = (places + word)[order]  # every word has one node more than characters
    steps = np.cumsum(np.bincount(ends, minlength=1))
    return Lattice(tails, tails + lengths[order] + 1, at_LN[lengths, places][order], steps)


def expected(words: Words, lattice: Lattice, scores_P: np.ndarray) -> np.ndarray:
    """How often each piece is expected in the corpus, over all ways of cutting every word.

    Args:
        words: The words.
        lattice: Where pieces fit.
        scores_P: ``(P,)`` log-probabilities.

    Returns:
        ``(P,)`` expected counts.
    """
    nodes = len(words.letters) + len(words.lengths)
    log_in = np.zeros(nodes)  # log-probability of all ways to a node
    shares = np.empty(len(lattice.tails))  # of each way into its node
    runs = [(int(a), int(b)) for a, b in zip(lattice.steps[:-1], lattice.steps[1:], strict=True)]
    for begin, end in runs:
        heads, ways = lattice.heads[begin:end], log_in[lattice.tails[begin:end]] + scores_P[lattice.pieces[begin:end]]
        first = np.flatnonzero(np.append(True, heads[1:] != heads[:-1]))
        group = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(heads))))
        highest = np.maximum.reduceat(ways, first)
        likely = np.exp(ways - highest[group])
        total = np.add.reduceat(likely, first)
        log_in[heads[first]] = highest + np.log(total)
        shares[begin:end] = likely / total[group]
    through = np.zeros(nodes)  # how often the cuts of the corpus come through a node
    through[words.starts + words.lengths + np.arange(len(words.lengths))] = words.counts
    for begin, end in reversed(runs):
        shares[begin:end] *= through[lattice.heads[begin:end]]
        np.add.at(through, lattice.tails[begin:end], shares[begin:end])
    return np.bincount(lattice.pieces, shares, minlength=len(scores_P))


def _log_shares(counts_P: np.ndarray) -> np.ndarray:
    """Log-probabilities from expected counts, rare ones made rarer: the mean of a logarithm under Dirichlet's law."""
    floored = np.maximum(counts_P, 0.5)
    return _digamma(floored) - _digamma(np.asarray(floored.sum()))


def _digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log-gamma, for x of at least a half, to about 1e-9."""
    shifted = x + 6.0
    recurrence = sum(1.0 / (x + step) for step in range(6))
    square = 1.0 / (shifted * shifted)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square / 240)))
    return np.log(shifted) - 0.5 / shifted - series - recurrence


def _worth_keeping(
    at_LN: np.ndarray, pieces_P2: np.ndarray, scores_P: np.ndarray, counts_P: np.ndarray, alphabet: int, room: int
) -> np.ndarray:
    """``(P,)`` whether a piece stays: the characters, and those without which the likelihood falls most."""
    loss_P = counts_P * (scores_P - _best_instead(at_LN, pieces_P2, scores_P))
    loss_P[:alphabet] = np.inf
    stay = max(room, int(len(pieces_P2) * _STAY), alphabet)
    keep = np.zeros(len(pieces_P2), dtype=bool)
    keep[np.argsort(-loss_P, kind="stable")[:stay]] = True
    return keep


def _best_instead(at_LN: np.ndarray, pieces_P2: np.ndarray, scores_P: np.ndarray) -> np.ndarray:
    """``(P,)`` the log-probability of the best way to write each piece with shorter ones."""
    begin_P, length_P = pieces_P2.T
    best = np.full((LONGEST_PIECE + 1, len(pieces_P2)), -np.inf)
    best[0] = 0.0
    for done in range(LONGEST_PIECE):
        for length in range(1, LONGEST_PIECE - done + 1):
            fits = np.flatnonzero((done + length <= length_P) & (length < length_P))
            piece = at_LN[length - 1, begin_P[fits] + done]
            fits, piece = fits[piece >= 0], piece[piece >= 0]
            best[done + length, fits] = np.maximum(best[done + length, fits], best[done, fits] + scores_P[piece])
    return best[length_P, np.arange(len(pieces_P2))]
