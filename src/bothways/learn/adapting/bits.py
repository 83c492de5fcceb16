"""How well a model expects the words of a text, in bits a character: comparable across vocabularies.

Words are chosen in the text, not in the tokens: every model has to guess the same ones. All tokens of a chosen word are
masked, and its bits are the sum of what its tokens cost. What one model spells in three tokens and another in one so
counts alike. (A model sees how many tokens a masked word has, which tells those with a finer vocabulary a little.)

Shapes: T tokens, M masked ones, V the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError
from bothways.run.answers import as_list
from bothways.run.engines.protocol import Output
from bothways.run.runner import Runner
from bothways.text.encoded import Encoded, gather_index
from bothways.text.words import word_offsets

MASKED = 0.15
_UNKNOWN = 8.0  # bits a character of a word that the vocabulary cannot spell: what plain bytes would take
_AT_ONCE = 256  # passages whose scores are in memory at a time


@dataclass(frozen=True)
class Bits:
    """What guessing the masked words of some texts cost.

    Attributes:
        bits: All of it.
        characters: Of the masked words.
        words: How many they are.
        unknown: How many of them the vocabulary cannot spell; they cost 8 bits a character.
    """

    bits: float
    characters: int
    words: int
    unknown: int

    @property
    def per_character(self) -> float:
        """Bits a character."""
        return self.bits / max(self.characters, 1)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**vars(self), "bits_per_character": self.per_character}


def bits_per_character(model: Runner, texts: str | Sequence[str], *, seed: int = 0) -> Bits:
    """Measures a model.

    Args:
        model: One with a masked-token head.
        texts: Passages; what a model cannot take in one piece is left out, so give short ones.
        seed: Which words are masked follows from it, and from the place of each passage.

    Raises:
        BothwaysError: The model has no such head, or the texts hold no word.
    """
    model.head("mlm", "bits_per_character")
    passages = list(as_list(texts))
    chosen = [masked_words(text, place, seed) for place, text in enumerate(passages)]
    found = Bits(0.0, 0, 0, 0)
    for begin in range(0, len(passages), _AT_ONCE):
        here = _measured(model, passages[begin : begin + _AT_ONCE], chosen[begin : begin + _AT_ONCE])
        found = Bits(*(a + b for a, b in zip(vars(found).values(), vars(here).values(), strict=True)))
    if not found.words:
        raise BothwaysError("the texts hold no words to mask; give held-out text of the domain")
    return found


def passages(texts: Sequence[str], *, words: int = 40, most: int = 4) -> list[str]:
    """Passages of texts, short enough for any model to take whole.

    Args:
        texts: Whole documents.
        words: Of a passage.
        most: Passages of a text, spread over it, at most.
    """
    found = []
    for text in texts:
        listed = text.split()
        pieces = [listed[begin : begin + words] for begin in range(0, len(listed), words)]
        step = max(1, len(pieces) // most)
        found += [" ".join(piece) for piece in pieces[::step][:most]]
    return found


def masked_words(text: str, place: int, seed: int) -> list[tuple[int, int]]:
    """The words of a passage that are masked, as characters from and to; one at least, if it has any."""
    words = [(start, end) for start, end in word_offsets(text) if any(map(str.isalnum, text[start:end]))]
    if not words:
        return []
    count = max(1, round(MASKED * len(words)))
    drawn = generator("bits", seed, place).choice(len(words), count, replace=False)
    return [words[number] for number in sorted(drawn.tolist())]


def _measured(model: Runner, texts: list[str], chosen: list[list[tuple[int, int]]]) -> Bits:
    tokenizer = model.tokenizer
    encoded = tokenizer.encode(texts, max_length=model.max_length, truncation="head", offsets=True, special_tokens=True)
    word_T = _words_of_tokens(encoded, chosen)
    gold_T = encoded.token_ids.copy()
    masked = replace(encoded, token_ids=np.where(word_T >= 0, tokenizer.mask_id, encoded.token_ids))
    unknown_id, costs = tokenizer.roles.get("unk", -1), np.zeros(len(word_T))
    for batch, logits in model.run(masked, Output("mlm", token=tokenizer.mask_id)):
        index = gather_index(masked.starts[batch.rows], batch.lengths)
        places = index[np.flatnonzero(batch.token_ids == tokenizer.mask_id)]
        logits_MV = np.asarray(logits, np.float64)[:, : tokenizer.size]
        highest = logits_MV.max(axis=1)
        log_sum = highest + np.log(np.exp(logits_MV - highest[:, None]).sum(axis=1))
        costs[places] = (log_sum - logits_MV[np.arange(len(places)), gold_T[places]]) / np.log(2)
    lengths = np.array([end - start for words in chosen for start, end in words], np.int64)
    whole = np.bincount(word_T[word_T >= 0], minlength=len(lengths)) > 0  # the others were cut off with the end
    bits = np.bincount(word_T[word_T >= 0], costs[word_T >= 0], minlength=len(lengths))
    strange = np.zeros(len(lengths), bool)
    strange[word_T[(word_T >= 0) & (gold_T == unknown_id)]] = True
    bits[strange] = _UNKNOWN * lengths[strange]
    return Bits(float(bits[whole].sum()), int(lengths[whole].sum()), int(whole.sum()), int(strange[whole].sum()))


def _words_of_tokens(encoded: Encoded, chosen: list[list[tuple[int, int]]]) -> np.ndarray:
    """``(T,)`` the number of the masked word, over all texts, that a token lies in; -1 for the others."""
    assert encoded.offsets is not None
    word_T = np.full(len(encoded.token_ids), -1, np.int64)
    number = 0
    for sequence, words in zip(range(len(encoded)), chosen, strict=True):
        span = slice(int(encoded.starts[sequence]), int(encoded.starts[sequence + 1]))
        starts, ends = encoded.offsets[span].T
        ordinary = ends > starts
        for start, end in words:
            # a token may begin with the space before its word
            word_T[span][ordinary & (ends > start) & (starts < end)] = number
            number += 1
    return word_T
