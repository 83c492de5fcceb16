"""Filters on metadata: a small language, read into a tree, so that nothing that is typed ever becomes part of SQL.

    year >= 2010 and (topic = sport or topic in ('film', 'music')) and not language = de

Names are those of the metadata, and ``id``, the document's. A value is a number, a word, or anything in quotes. Numbers
are compared as numbers, also where a table held them as text; everything else as text. What a document does not say is
never equal to anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bothways.errors import BothwaysError, closest

OPERATORS = ("=", "!=", "<", "<=", ">", ">=")
ID = "id"
"""The name that stands for the document's own."""
NUMBER = r"^\s*[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$"
"""Texts that are compared as numbers, for SQL."""

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign><=|>=|!=|==|=|<|>|\(|\)|,)|(?P<word>[^\s()<>=!,'"]+))"""
)
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")
_PLAIN = re.compile(r"[^\W\d][\w.-]*")


@dataclass(frozen=True)
class Compare:
    """A comparison of one value.

    Attributes:
        name: Of the metadata, or `ID`.
        operator: One of `OPERATORS`.
        value: What it is compared with: a number or a text.
    """

    name: str
    operator: str
    value: float | str


@dataclass(frozen=True)
class Not:
    """What is not so."""

    inner: Filter


@dataclass(frozen=True)
class Every:
    """What is so in every part (``and``)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True)
class Some:
    """What is so in some part (``or``)."""

    parts: tuple[Filter, ...]


Filter = Compare | Not | Every | Some


def parse(text: str, known: Iterable[str] | None = None) -> Filter:
    """Reads a filter.

    Args:
        text: As it is typed.
        known: The names there are; None takes any.

    Raises:
        BothwaysError: It is no filter, or a name is not known.
    """
    reader = _Reader(text, None if known is None else sorted({*known, ID}))
    found = reader.some()
    if reader.ahead is not None:
        raise reader.wrong(f"'and' or 'or' should stand before {reader.ahead[1]!r}")
    return found


class _Reader:
    """Reads a filter from left to right, with one token ahead."""

    def __init__(self, text: str, known: list[str] | None) -> None:
        self.text, self.known = text, known
        self._tokens = self._split()
        self.ahead = next(self._tokens, None)

    def wrong(self, what: str) -> BothwaysError:
        example = "such as \"year >= 2010 and topic = 'sport'\""
        return BothwaysError(f"the filter {self.text!r} cannot be read: {what} ({example})")

    def _split(self) -> Iterator[tuple[str, str]]:
        place, text = 0, self.text.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self.wrong(f"a quote or a sign is wrong at {text[place : place + 20].strip()!r}")
            kind = str(match.lastgroup)
            yield kind, match[kind]
            place = match.end()

    def take(self) -> tuple[str, str]:
        if self.ahead is None:
            raise self.wrong("it ends too early")
        found, self.ahead = self.ahead, next(self._tokens, None)
        return found

    def takes(self, word: str) -> bool:
        """Takes a sign or word if it comes next."""
        if self.ahead is None or self.ahead[0] == "quoted" or self.ahead[1].lower() != word:
            return False
        self.take()
        return True

    def some(self) -> Filter:
        parts = [self.every()]
        while self.takes("or"):
            parts.append(self.every())
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def every(self) -> Filter:
        parts = [self.one()]
        while self.takes("and"):
            parts.append(self.one())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def one(self) -> Filter:
        if self.takes("not"):
            return Not(self.one())
        if self.takes("("):
            found = self.some()
            if not self.takes(")"):
                raise self.wrong("a bracket is not closed")
            return found
        name = self.name()
        if self.takes("not"):
            if not self.takes("in"):
                raise self.wrong("'not' behind a name needs 'in'")
            return Not(self.among(name))
        if self.takes("in"):
            return self.among(name)
        kind, sign = self.take()
        sign = "=" if sign == "==" else sign
        if kind == "quoted" or sign not in OPERATORS:
            raise self.wrong(f"one of {' '.join(OPERATORS)} or 'in' should stand behind {name!r}, not {sign!r}")
        return self.compare(name, sign)

    def compare(self, name: str, sign: str) -> Filter:
        value = self.value()
        return Not(Compare(name, "=", value)) if sign == "!=" else Compare(name, sign, value)

    def among(self, name: str) -> Filter:
        if not self.takes("("):
            raise self.wrong("'in' needs values in brackets")
        parts = [self.compare(name, "=")]
        while self.takes(","):
            parts.append(self.compare(name, "="))
        if not self.takes(")"):
            raise self.wrong("a bracket is not closed")
        return Some(tuple(parts))

    def name(self) -> str:
        kind, word = self.take()
        name = _unquoted(word) if kind == "quoted" else word
        if kind == "sign" or (kind == "word" and not _PLAIN.fullmatch(word)):
            raise self.wrong(f"a name should stand where {word!r} stands")
        if self.known is not None and name not in self.known:
            raise BothwaysError(
                f"no document says {name!r}; the filter {self.text!r} can ask for {', '.join(self.known)}"
                f"{closest(name, self.known)}"
            )
        return name

    def value(self) -> float | str:
        kind, word = self.take()
        if kind == "sign":
            raise self.wrong(f"a value should stand where {word!r} stands")
        if kind == "quoted":
            return _unquoted(word)
        if not _NUMBER.fullmatch(word):
            return word
        if not math.isfinite(number := float(word)):
            raise self.wrong(f"the number {word} is too large")
        return number


def _unquoted(word: str) -> str:
    return word[1:-1].replace(word[0] * 2, word[0])


def matches(found: Filter, document: str, metadata: Mapping[str, Any]) -> bool:
    """Whether a document passes a filter.

    Args:
        found: The filter.
        document: The document's id.
        metadata: What it says beside its text.
    """
    if isinstance(found, Not):
        return not matches(found.inner, document, metadata)
    if isinstance(found, Every):
        return all(matches(part, document, metadata) for part in found.parts)
    if isinstance(found, Some):
        return any(matches(part, document, metadata) for part in found.parts)
    held = as_text(document if found.name == ID else metadata.get(found.name))
    if held is None:
        return False
    if isinstance(found.value, str):
        return _holds(held, found.operator, found.value)
    return bool(_NUMBER.fullmatch(held.strip())) and _holds(float(held), found.operator, found.value)


def _holds(held: Any, operator: str, value: Any) -> bool:
    checks = {"=": held == value, "<": held < value, "<=": held <= value, ">": held > value, ">=": held >= value}
    return checks[operator]


def as_text(value: Any) -> str | None:
    """A value of the metadata as filters compare it; None where there is none."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def compile_filter(found: Filter, compare: Callable[[Compare], str]) -> str:
    """A filter as a condition of SQL.

    Args:
        found: The filter.
        compare: One comparison as a condition that is never NULL.
    """
    if isinstance(found, Not):
        return f"(NOT {compile_filter(found.inner, compare)})"
    if isinstance(found, Compare):
        return f"({compare(found)})"
    word = " AND " if isinstance(found, Every) else " OR "
    return "(" + word.join(compile_filter(part, compare) for part in found.parts) + ")"
