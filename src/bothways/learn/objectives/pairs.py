"""Pairs of texts, cut from a corpus: neighbours, and texts that are not, or not in this order.

Every example is a pure function of the corpus and of (seed, epoch, id), so any process makes the same one at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.text.encoded import framed, room_beside

if TYPE_CHECKING:
    from bothways.text.shards import Corpus
    from bothways.text.tokenizer import Tokenizer

IS_NEXT, IS_RANDOM, IS_SWAPPED = 0, 1, 1
PairKind = Literal["random", "swapped"]
"""What the other half of the pairs is: with a random second text, or with the two texts in the wrong order."""
_DRAWS = 100  # of a second text, before a pair stays as it is
_WINDOW = 1 << 20  # sentences looked at at once when anchors are laid


class Pair(NamedTuple):
    """Two texts as one sequence, as the tokenizer's template sets them: ``[CLS] A [SEP] B [SEP]`` for BERT.

    Attributes:
        token_ids: ``(L,)`` int64.
        segment_ids: ``(L,)`` int64: for BERT 0 up to and with the first [SEP], then 1; for RoBERTa 0.
        label: 0 when B follows A in the corpus; 1 when B comes from another document, or when A follows B.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    label: int


class Pairs:
    """Pairs for next sentence prediction, as in Devlin et al. 2018, "BERT", section 3.1 and appendix A.2.

    An anchor is a run of whole sentences of one document, just long enough to fill a sequence, at least two sentences.
    An example splits its anchor between two sentences into A and B. One time in two B is thrown away, and what stands
    there instead is as much as fits from a random sentence of another document on. One time in ten the example is
    shortened to a random length. A pair that is still too long loses tokens of its longer text, from front and back at
    random.

    Of examples that are held out (`hold_out`) no text comes into the others. Where no other document has a text for a
    pair, it stays as it is.

    Or pairs for sentence order, as in Lan et al. 2019, "ALBERT", section 3.1: the same, but one time in two A and B
    change places.

    Attributes:
        length: The most tokens in a sequence, special tokens counted.
        kind: What the pairs with label 1 are.
        seed: What the random choices depend on beside epoch and id.
        short_probability: The share of examples that are shortened.
        anchors: ``(N, 2)`` the first sentence of each anchor and the one behind its last.
    """

    def __init__(
        self,
        corpus: Corpus,
        length: int,
        tokenizer: Tokenizer,
        *,
        kind: PairKind = "random",
        seed: int = 0,
        short_probability: float = 0.1,
    ) -> None:
        self._template = tokenizer.pair
        self._room = room_beside(self._template, length)
        if self._room < 2:
            specials = length - self._room
            raise BothwaysError(
                f"pairs of {length} tokens have no room beside the {specials} special tokens; give at least "
                f"{specials + 2}"
            )
        if kind == "random" and corpus.documents < 2:
            raise BothwaysError(
                f"next sentence prediction needs at least two documents and {corpus.folder} has {corpus.documents}; "
                f"separate documents by blank lines and prepare it anew, or choose the objective mlm"
            )
        self.corpus, self.length, self.kind = corpus, length, kind
        self.seed, self.short_probability = seed, short_probability
        self.anchors = _lay_anchors(corpus, self._room)
        if not len(self.anchors):
            what = "next sentence prediction" if kind == "random" else "sentence order prediction"
            raise BothwaysError(
                f"{what} needs documents of two sentences or more and {corpus.folder} has none; "
                f"put a blank line only where a document ends and prepare it anew, or choose the objective mlm"
            )
        self.hold_out(np.empty(0, dtype=np.int64))

    def hold_out(self, numbers: np.ndarray) -> None:
        """Keeps the texts of some examples out of all others, which changes what examples are made.

        Args:
            numbers: The examples, ascending; their second texts come from each other.
        """
        self._held = frozenset(numbers.tolist())
        self._apart = self.anchors[numbers]
        self._apart_documents = np.searchsorted(self.corpus.document_starts, self._apart[:, 0], side="right") - 1

    def __len__(self) -> int:
        return len(self.anchors)

    def sequence(self, epoch: int, anchor: int) -> Pair:
        """The pair that an anchor makes in an epoch."""
        chance = generator("pair", self.seed, epoch, anchor)
        target = self._room
        first, last = (int(sentence) for sentence in self.anchors[anchor])
        if chance.random() < self.short_probability:
            target = int(chance.integers(2, self._room, endpoint=True))
            last = min(last, max(first + 2, self._reach(first, target)))
        split = int(chance.integers(first + 1, last))
        a, b = self._tokens(first, split), self._tokens(split, last)
        label = int(chance.random() < 0.5)
        if label and self.kind == "random":
            other = self._elsewhere(anchor, max(target - (a[1] - a[0]), 1), chance)
            b, label = (b, IS_NEXT) if other is None else (other, IS_RANDOM)
        elif label:
            a, b = b, a
        keep_a, keep_b = _longest_first(a[1] - a[0], b[1] - b[0], self._room)
        texts = self._shortened(*a, keep_a, chance), self._shortened(*b, keep_b, chance)
        return Pair(*framed(self._template, *texts), label)

    def _tokens(self, first: int, last: int) -> tuple[int, int]:
        """Where the sentences ``first:last`` begin and end in the corpus."""
        return int(self.corpus.sentence_starts[first]), int(self.corpus.sentence_starts[last])

    def _reach(self, first: int, tokens: int) -> int:
        """The sentence behind the fewest sentences from `first` on that have so many tokens."""
        starts = self.corpus.sentence_starts
        return int(np.searchsorted(starts, starts[first] + tokens))

    def _elsewhere(self, anchor: int, tokens: int, chance: np.random.Generator) -> tuple[int, int] | None:
        """A run of a document that does not hold an anchor, held out if the anchor is; None: there is none."""
        starts = self.corpus.document_starts
        here = int(np.searchsorted(starts, self.anchors[anchor, 0], side="right")) - 1
        avoided = self._apart
        if anchor in self._held:
            others = self._apart[self._apart_documents != here]
            if len(others):
                first, last = others[chance.integers(len(others))].tolist()
                return self._run_in(first, last, tokens, chance)
            avoided = self._apart[:0]  # it only measures: any text does
        for _ in range(_DRAWS):
            other = int(chance.integers(self.corpus.documents - 1))
            other += other >= here
            first = int(chance.integers(starts[other], starts[other + 1]))
            behind = int(np.searchsorted(avoided[:, 0], first, side="right"))
            if not behind or avoided[behind - 1, 1] <= first:
                last = min([int(starts[other + 1]), *avoided[behind : behind + 1, 0].tolist()])
                return self._tokens(first, min(self._reach(first, tokens), last))
        return None

    def _run_in(self, first: int, last: int, tokens: int, chance: np.random.Generator) -> tuple[int, int]:
        """A run from a random sentence of ``first:last`` on, from behind which so many tokens are left if they are."""
        starts = self.corpus.sentence_starts
        latest = int(np.searchsorted(starts, starts[last] - tokens, side="right")) - 1
        begin = int(chance.integers(first, max(latest, first), endpoint=True))
        return self._tokens(begin, min(self._reach(begin, tokens), last))

    def _shortened(self, begin: int, end: int, keep: int, chance: np.random.Generator) -> np.ndarray:
        """The tokens ``begin:end``, of which only `keep` stay: each other one left at the front or at the back."""
        front = int(chance.binomial(end - begin - keep, 0.5))
        return self.corpus.read(begin + front, begin + front + keep)


def _longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """How many of a and b tokens stay when single tokens leave the longer text (at a tie the second) until they fit."""
    if a + b <= room:
        return a, b
    keep_a = min(a, max(room - b, -(-room // 2)))
    return keep_a, room - keep_a


def _lay_anchors(corpus: Corpus, room: int) -> np.ndarray:
    """Covers every document with runs of sentences of at least `room` tokens and at least two sentences.

    The last run of a document may be shorter; a single sentence that is left over takes the one before it along.
    """
    anchors: list[np.ndarray] = []
    first = 0
    for begin in range(0, corpus.sentences, _WINDOW):
        stop = min(begin + _WINDOW, corpus.sentences)
        document = np.searchsorted(corpus.document_starts, np.arange(begin, stop), side="right")
        document_ends = corpus.document_starts[document]
        reach = np.searchsorted(corpus.sentence_starts, corpus.sentence_starts[begin:stop] + room)
        ends = np.minimum(np.maximum(reach, np.arange(begin, stop) + 2), document_ends).tolist()
        firsts = []
        while first < stop:
            firsts.append(first)
            first = ends[first - begin]
        chosen = np.asarray(firsts, dtype=np.int64)
        lasts = np.asarray([ends[place - begin] for place in firsts], dtype=np.int64)
        document_starts = corpus.document_starts[document[chosen - begin] - 1]
        chosen -= lasts - chosen == 1
        whole = chosen >= document_starts  # else a document of one sentence, which has none before it
        anchors.append(np.stack((chosen, lasts), axis=1)[whole])
    return np.concatenate(anchors) if anchors else np.empty((0, 2), dtype=np.int64)
