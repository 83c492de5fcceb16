"""Blocks of running text, cut from a corpus.

Every example is a pure function of the corpus and its number, so any process makes the same one at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bothways.errors import BothwaysError
from bothways.text.encoded import framed, room_beside

if TYPE_CHECKING:
    from bothways.text.encoded import Template
    from bothways.text.shards import Corpus
    from bothways.text.tokenizer import Tokenizer

_SHORTEST = 8  # tokens that the rest of a document needs to make a block of its own


def room_for_text(template: Template, length: int) -> int:
    """The tokens of one text that a sequence holds beside the special tokens.

    Raises:
        BothwaysError: There is no room for any.
    """
    room = room_beside(template, length)
    if room < 1:
        raise BothwaysError(
            f"sequences of {length} tokens have no room beside {length - room} special tokens; give at least "
            f"{length - room + 1}"
        )
    return room


class Blocks:
    """Blocks of running text as the tokenizer sets one text, ``[CLS] run [SEP]`` for BERT, for masked tokens alone.

    The corpus is cut into runs that fill a sequence. Across documents, [SEP] stands between two documents, so that
    every block but the last is full and every token of the corpus is in exactly one. Within documents, a run ends with
    its document, and a last run of fewer than 8 tokens is left out.

    Attributes:
        length: The most tokens in a sequence, special tokens counted.
    """

    def __init__(self, corpus: Corpus, length: int, tokenizer: Tokenizer, *, across_documents: bool = True) -> None:
        self.corpus, self.length, self.across_documents = corpus, length, across_documents
        self._template, self._sep = tokenizer.single, tokenizer.sep_id
        self._room = room_for_text(self._template, length)
        self._documents = corpus.sentence_starts[corpus.document_starts]  # where each begins, in tokens
        if across_documents:
            # The separators' places in the stream of all tokens and separators; none after the last document.
            self._separators = self._documents[1:-1] + np.arange(corpus.documents - 1)
            self._stream = corpus.tokens + len(self._separators)
            self._count = -(-self._stream // self._room)
        else:
            full, rest = np.divmod(np.diff(self._documents), self._room)
            self._first_blocks = np.concatenate(([0], np.cumsum(full + (rest >= min(_SHORTEST, self._room)))))
            self._count = int(self._first_blocks[-1])

    def __len__(self) -> int:
        return self._count

    def sequence(self, epoch: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """One block; the same in every epoch.

        Returns:
            ``(L,)`` int64 token ids and ``(L,)`` segment ids; L is at most `length`.
        """
        return framed(self._template, self._across(block) if self.across_documents else self._within(block))

    def _across(self, block: int) -> np.ndarray:
        begin = block * self._room
        end = min(begin + self._room, self._stream)
        before, upto = np.searchsorted(self._separators, (begin, end))
        tokens = self.corpus.read(begin - int(before), end - int(upto))
        places = self._separators[before:upto] - begin - np.arange(upto - before)
        return np.insert(tokens, places, self._sep)

    def _within(self, block: int) -> np.ndarray:
        document = int(np.searchsorted(self._first_blocks, block, side="right")) - 1
        begin = int(self._documents[document] + (block - self._first_blocks[document]) * self._room)
        return self.corpus.read(begin, min(begin + self._room, int(self._documents[document + 1])))
