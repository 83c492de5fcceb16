"""Sequences of whole sentences (Liu et al. 2019, "RoBERTa", section 4.2: FULL-SENTENCES and DOC-SENTENCES).

Every example is a pure function of the corpus and its number, so any process makes the same one at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bothways.learn.objectives.blocks import room_for_text
from bothways.text.encoded import framed

if TYPE_CHECKING:
    from bothways.text.shards import Corpus
    from bothways.text.tokenizer import Tokenizer

_WINDOW = 1 << 20  # sentences looked at at once


class WholeSentences:
    """Neighbouring whole sentences, as many as a sequence holds, as the tokenizer sets one text; for masked tokens.

    Across documents, a separator stands between two documents in a sequence. Within documents, the last sequence of
    each is as short as it happens to be. A sentence that is longer than a sequence is cut into pieces that fill one,
    and its rest counts as a sentence. So every token of the corpus is in exactly one sequence.

    Attributes:
        length: The most tokens in a sequence, special tokens counted.
        starts: ``(N + 1,)`` where each sequence begins, in tokens of the corpus, and the end.
    """

    def __init__(self, corpus: Corpus, length: int, tokenizer: Tokenizer, *, across_documents: bool) -> None:
        self.corpus, self.length, self.across_documents = corpus, length, across_documents
        self._template, self._separator = tokenizer.single, tokenizer.sep_id
        self._documents = np.asarray(corpus.sentence_starts[corpus.document_starts])  # where each begins, in tokens
        self.starts = _pack(corpus, self._documents, room_for_text(self._template, length), across_documents)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sequence(self, epoch: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        """One sequence; the same in every epoch.

        Returns:
            ``(L,)`` int64 token ids and ``(L,)`` segment ids; L is at most `length`.
        """
        begin, end = int(self.starts[number]), int(self.starts[number + 1])
        first, last = np.searchsorted(self._documents, (begin + 1, end))
        borders = self._documents[first:last] - begin  # none within documents
        return framed(self._template, np.insert(self.corpus.read(begin, end), borders, self._separator))


def _pack(corpus: Corpus, documents: np.ndarray, room: int, across: bool) -> np.ndarray:
    """Where sequences begin: each takes sentences as long as there is room, from left to right."""
    found = [np.zeros(1, dtype=np.int64)]
    sentence, token = 0, 0
    while token < corpus.tokens:
        stop = min(sentence + max(_WINDOW, room + 1), corpus.sentences)
        starts = np.array(corpus.sentence_starts[sentence : stop + 1])
        starts[0] = token  # perhaps in the middle of a long sentence
        pieces = _pieces(starts, room)
        ends = _ends(pieces, documents, room, across)
        whole = stop == corpus.sentences  # else the last sequence may go on behind the window
        chosen, piece = [], 0
        while piece < len(ends) and (whole or ends[piece] < len(ends)):
            piece = ends[piece]
            chosen.append(piece)
        found.append(pieces[chosen])
        token = int(pieces[piece])
        sentence = int(np.searchsorted(corpus.sentence_starts, token, side="right")) - 1
    return np.concatenate(found)


def _pieces(starts: np.ndarray, room: int) -> np.ndarray:
    """The beginnings of sentences, and the end, with more of them where a sentence is longer than `room`."""
    parts = -(-np.diff(starts) // room)
    within = np.arange(parts.sum()) - np.repeat(np.cumsum(parts) - parts, parts)
    return np.append(np.repeat(starts[:-1], parts) + within * room, starts[-1])


def _ends(pieces: np.ndarray, documents: np.ndarray, room: int, across: bool) -> list[int]:
    """For each piece the first one that does not fit into a sequence that begins with it."""
    begins, ends = pieces[:-1], pieces[1:]
    document = np.searchsorted(documents, begins, side="right")
    passed = document if across else 0  # separators before a piece
    reach = np.searchsorted(ends + passed, begins + passed + room, side="right")
    if not across:
        reach = np.minimum(reach, np.searchsorted(begins, documents[document]))
    return reach.tolist()
