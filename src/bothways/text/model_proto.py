"""SentencePiece's model files: the protocol buffer `ModelProto`, as far as encoding needs it.

A message is a sequence of fields: a number that says which field and how long, then the value. Unknown fields are
passed over, so files of newer versions read as well.

Source: Kudo and Richardson, SentencePiece (2018), and the format's public definition (sentencepiece_model.proto).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from bothways.errors import BothwaysError

_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # wire types
ALGORITHMS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


class Use(IntEnum):
    """What a piece is there for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3  # never made of text
    USER_DEFINED = 4  # always one token
    UNUSED = 5
    BYTE = 6  # "<0x41>", for what no other piece covers


class VocabularyPiece(NamedTuple):
    """An entry of the vocabulary.

    Attributes:
        text: As written, the space before a word as "▁".
        score: Its log-probability (unigram), or minus its rank (BPE).
        use: What it is there for.
    """

    text: str
    score: float
    use: Use


@dataclass(frozen=True, kw_only=True)
class ModelProto:
    """A SentencePiece model; the defaults are those of the format.

    Attributes:
        pieces: The vocabulary in the order of ids.
        algorithm: "unigram", "bpe", "word" or "char".
        unknown_id: The piece of what no other covers.
        byte_fallback: Whether what no piece covers is written in bytes.
        space_behind: Whether "▁" stands behind a word instead of before it.
        charsmap: How characters are rewritten, compiled; empty when they are not.
        leading_space: Whether a text begins with a space.
        squeeze_spaces: Whether spaces at the ends are removed and repeated ones made one.
        escape_spaces: Whether spaces become "▁".
    """

    pieces: list[VocabularyPiece] = field(default_factory=list)
    algorithm: str = "unigram"
    unknown_id: int = 0
    byte_fallback: bool = False
    space_behind: bool = False
    charsmap: bytes = b""
    leading_space: bool = True
    squeeze_spaces: bool = True
    escape_spaces: bool = True


def read_model_proto(path: str | Path) -> ModelProto:
    """Reads a SentencePiece model file.

    Raises:
        BothwaysError: It is not one, or it cannot be read.
    """
    try:
        model = _model(Path(path).read_bytes())
    except OSError as error:
        raise BothwaysError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, struct.error):
        model = ModelProto()
    if len(model.pieces) <= model.unknown_id:  # other bytes may happen to read as some other message
        raise BothwaysError(f"{path} is not a SentencePiece model, or is cut off: copy it again")
    return model


def _model(raw: bytes) -> ModelProto:
    pieces: list[VocabularyPiece] = []
    trainer: dict[int, int | bytes] = {}
    normalizer: dict[int, int | bytes] = {}
    for number, value in _fields(raw):
        if number == 1:
            pieces.append(_piece(_message(value)))
        elif number == 2:
            trainer = dict(_fields(_message(value)))
        elif number == 3:
            normalizer = dict(_fields(_message(value)))
    return ModelProto(
        pieces=pieces,
        algorithm=ALGORITHMS[_number(trainer.get(3, 1))],
        unknown_id=_number(trainer.get(40, 0)),
        byte_fallback=bool(trainer.get(35, 0)),
        space_behind=bool(trainer.get(24, 0)),
        charsmap=_message(normalizer.get(2, b"")),
        leading_space=bool(normalizer.get(3, 1)),
        squeeze_spaces=bool(normalizer.get(4, 1)),
        escape_spaces=bool(normalizer.get(5, 1)),
    )


def _piece(raw: bytes) -> VocabularyPiece:
    text, score, use = "", 0.0, Use.NORMAL
    for number, value in _fields(raw):
        if number == 1:
            text = _message(value).decode("utf-8")
        elif number == 2:
            score = struct.unpack("<f", _message(value))[0]
        elif number == 3:
            use = Use(_number(value))
    return VocabularyPiece(text, score, use)


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: number, and an integer or bytes."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(raw, place)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            length, place = _varint(raw, place)
        elif kind in (_EIGHT_BYTES, _FOUR_BYTES):
            length = 8 if kind == _EIGHT_BYTES else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(raw):
            raise ValueError("cut off")
        yield key >> 3, raw[place : place + length]
        place += length


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    """An integer, seven bits a byte, lowest first; and the place behind it."""
    value = 0
    for count in range(10):
        if place + count >= len(raw):
            raise ValueError("cut off")
        byte = raw[place + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, place + count + 1
    raise ValueError("an integer of more than ten bytes")


def _message(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int) or value >= 1 << 31:
        raise ValueError("not a small number")
    return value
