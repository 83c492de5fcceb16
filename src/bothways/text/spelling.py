"""How tokens read: the text that a token of any kind stands for, and whether it goes on with the word before it.

WordPiece marks what goes on ("##ing"); byte-level BPE and Unigram mark what begins, by the space before it: "Ġ", "▁".
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer, models

BYTES, SPACES, CONTINUED, PLAIN = "bytes", "spaces", "continued", "plain"
_BYTE_PIECE = re.compile("<0x([0-9A-F]{2})>")
_UNSPACED = re.compile(  # Thai, Lao, Tibetan, Burmese, Khmer, kana, Han: no spaces between words
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


class Reading(NamedTuple):
    """How a token reads.

    Attributes:
        text: Without any mark; the replacement character for part of a character.
        glued: Whether it goes on with the word before it, so that no space stands between.
    """

    text: str
    glued: bool


class Edges(NamedTuple):
    """Where words begin and end, as far as each token shows it by itself.

    Attributes:
        begins: ``(V,)`` tokens that begin a word, whatever stands before them.
        ends: ``(V,)`` tokens that end one, so that whatever follows them begins another.
    """

    begins: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Spelling:
    """How the tokens of a vocabulary are spelled.

    Attributes:
        scheme: "bytes" (byte-level BPE), "spaces" (SentencePiece), "continued" (WordPiece) or "plain".
        mark: What marks a token: "Ġ", "▁" or "##".
    """

    scheme: str
    mark: str = ""

    @classmethod
    def of(cls, backend: Tokenizer) -> Spelling:
        """That of a tokenizer, told from how it splits and decodes."""
        if isinstance(backend.model, models.WordPiece):
            return cls(CONTINUED, backend.model.continuing_subword_prefix)
        steps = [step for part in (backend.pre_tokenizer, backend.decoder) if part is not None for step in _steps(part)]
        if any(step.get("type") == "ByteLevel" for step in steps):
            return cls(BYTES, "Ġ")
        marks = [step.get("replacement") or step.get("pattern", {}).get("String") for step in steps]
        return cls(SPACES, "▁") if "▁" in marks else cls(PLAIN)

    @property
    def marks_beginnings(self) -> bool:
        """Whether a token that begins a word is marked, with the space before it, and not one that goes on."""
        return self.scheme in (BYTES, SPACES)

    def edges(self, token: str) -> tuple[bool, bool]:
        """Whether a token begins a word whatever stands before it, and whether it ends one whatever follows.

        WordPiece marks what goes on, and that says all. Elsewhere a word begins at a space; like BERT's, it also ends
        at punctuation, and in scripts without spaces every token is a word.
        """
        text, glued = self.read(token)
        if not self.marks_beginnings:
            return not glued, False
        return not glued or _stands_alone(text[:1]), _stands_alone(text[-1:])

    def read(self, token: str) -> Reading:
        """How a token of the vocabulary reads; special tokens are not asked for."""
        if self.scheme == CONTINUED:
            glued = bool(self.mark) and token.startswith(self.mark) and token != self.mark
            return Reading(token.removeprefix(self.mark) if glued else token, glued)
        if self.scheme == SPACES:
            begins, token = token.startswith(self.mark), token.removeprefix(self.mark).replace(self.mark, " ")
            byte = _BYTE_PIECE.fullmatch(token)
            return Reading(bytes.fromhex(byte[1]).decode("utf-8", "replace") if byte else token, not begins)
        if self.scheme == BYTES:
            text = bytes(_BYTE_OF.get(letter, ord("?")) for letter in token).decode("utf-8", "replace")
            return Reading(text.removeprefix(" "), not text.startswith(" "))
        return Reading(token, False)


@cache
def _stands_alone(letter: str) -> bool:
    """Whether a character is no part of a longer word; part of a character is taken for a letter."""
    if letter in ("", "\ufffd"):
        return False
    return letter.isspace() or unicodedata.category(letter)[0] in "PS" or bool(_UNSPACED.match(letter))


def _steps(part: Any) -> Iterator[dict[str, Any]]:
    """The settings of each step of a pre-tokenizer or decoder."""
    waiting = [json.loads(part.__getstate__())]
    while waiting:
        step = waiting.pop()
        waiting += [
            inner for value in step.values() if isinstance(value, list) for inner in value if isinstance(inner, dict)
        ]
        yield step


def _byte_letters() -> dict[str, int]:
    """The byte that each letter of byte-level BPE stands for: printable ones for themselves, the others from Ā on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = sorted(set(range(256)) - set(printable))
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF = _byte_letters()
