"""Where an answer stands in its context, in characters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Place = tuple[int, int]  # context[start:end]

SHIFT = 16  # characters that a stated beginning may be off
_SHOWN = 60  # letters of a text in a message


def place_at(context: str, text: str, start: int) -> Place | None:
    """The place of an answer that is said to begin somewhere.

    Args:
        context: Where it stands.
        text: The answer.
        start: Where it is said to begin. A few characters off, or white space that differs, is repaired.

    Returns:
        The nearest place of the text, or None where it does not stand there.
    """
    if start >= 0 and text == text.strip() and context[start : start + len(text)] == text:
        return start, start + len(text)
    begin = max(0, start - SHIFT)
    found = [match.span() for match in re.finditer(_pattern(text), context[begin : start + len(text) + 2 * SHIFT])]
    near = [(begin + first, begin + last) for first, last in found if abs(begin + first - start) <= SHIFT]
    return min(near, key=lambda place: abs(place[0] - start), default=None)


def find_place(context: str, text: str) -> Place | None:
    """The first place of an answer: as a word of its own, else within one, else with other capitals."""
    pattern = _pattern(text)
    for tried, flags in ((_bounded(pattern), 0), (pattern, 0), (pattern, re.IGNORECASE)):
        if found := re.search(tried, context, flags):
            return found.span()
    return None


def find_aliases(context: str, aliases: Sequence[str]) -> Iterator[Place]:
    """All places where one of several answers stands as words of its own, whatever its capitals, without overlaps.

    Where one answer begins with another the longer is taken.
    """
    told = sorted({alias.strip() for alias in aliases if alias.strip()}, key=lambda alias: (-len(alias), alias))
    if told:
        either = "|".join(map(_pattern, told))
        yield from (match.span() for match in re.finditer(_bounded(either), context, re.IGNORECASE))


def not_there(context: str, text: str, start: int | None) -> str:
    """What to say of an answer that does not stand where it should."""
    short = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    if start is None:
        return f"the answer {short!r} is not found in its context; correct it or leave the row out"
    stands = context[max(0, start) : max(0, start) + min(len(text), _SHOWN)]
    other = [match.start() for match in re.finditer(_pattern(text), context)]
    near = min(other, key=lambda place: abs(place - start), default=None)
    hint = f"; it does at character {near}" if near is not None else ", nor anywhere else; correct it or leave it out"
    return f"the answer {short!r} does not stand at character {start} of its context, where {stands!r} stands{hint}"


def _pattern(text: str) -> str:
    """The words of a text with any white space between them."""
    return r"\s+".join(map(re.escape, text.split())) or r"(?!)"


def _bounded(pattern: str) -> str:
    return rf"(?<!\w)(?:{pattern})(?!\w)"
