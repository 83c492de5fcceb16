"""A text with the parts that are pointed at, cut to what is worth showing, as plain data."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from bothways.learn.tasks.protocol import Judged, Mark

_ROOM, _AROUND, _HEAD = 600, 90, 200
"""Characters of a text that are shown; in a longer one those around a mark, and those of a first line that is shown."""
_MOST_MARKS = 12


def shown(row: Judged) -> dict[str, Any]:
    """One judged example as plain data.

    Returns:
        ``truth``, ``guess``, ``credit``, ``confidence``, ``doubt`` (as in `Judged`; None for NaN) and ``parts``, which
        read one after another are the text, or what is shown of it: ``{text}``, with ``right`` and ``guessed``, the
        names of the marks that it lies in, and ``gap`` where something before it is left out.
    """
    return {
        "parts": parts(row.text, row.truth_marks, row.guess_marks),
        "truth": _cut(row.truth),
        "guess": _cut(row.guess),
        "credit": row.credit,
        "confidence": _known(row.confidence),
        "doubt": _known(row.doubt),
    }


def parts(text: str, right: tuple[Mark, ...], guessed: tuple[Mark, ...]) -> list[dict[str, Any]]:
    """A text in parts, each within the same marks; of a long one the neighbourhood of its marks."""
    right, guessed = _joined(right), _joined(guessed)
    windows = _windows(text, _worth(right, guessed))
    marks = (*right, *guessed)
    edges = {edge for mark in marks for edge in (mark.start, mark.end)} | {
        edge for window in windows for edge in window
    }
    found: list[dict[str, Any]] = []
    for number, (first, last) in enumerate(windows):
        within = sorted(edge for edge in edges if first <= edge <= last)
        for start, end in pairwise(within):
            part: dict[str, Any] = {"text": text[start:end]}
            part |= {"right": _over(right, start, end)} if _over(right, start, end) else {}
            part |= {"guessed": _over(guessed, start, end)} if _over(guessed, start, end) else {}
            part |= {"gap": True} if start == first and (first > 0 if not number else True) else {}
            found.append(part)
    if windows and windows[-1][1] < len(text):
        found.append({"text": "", "gap": True})
    return found


def _joined(marks: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Marks of one name that overlap as one, such as several answers that are all right."""
    joined: list[Mark] = []
    for mark in sorted(marks, key=lambda mark: (mark.label, mark.start, mark.end)):
        if joined and joined[-1].label == mark.label and mark.start < joined[-1].end:
            joined[-1] = Mark(joined[-1].start, max(joined[-1].end, mark.end), mark.label)
        else:
            joined.append(mark)
    return tuple(joined)


def _worth(right: tuple[Mark, ...], guessed: tuple[Mark, ...]) -> list[Mark]:
    """Marks to show first: those that differ, then the others."""
    differing = [mark for mark in (*right, *guessed) if (mark in right) != (mark in guessed)]
    return (differing or [*right, *guessed])[:_MOST_MARKS]


def _windows(text: str, marks: list[Mark]) -> list[tuple[int, int]]:
    """Which parts of the text are shown, in order, none overlapping another."""
    if len(text) <= _ROOM or not marks:
        return [(0, min(len(text), _ROOM))] if text else []
    head = text.find("\n")
    windows = [(0, head + 1)] if 0 < head <= _HEAD else []  # such as a question before its text
    for mark in sorted(marks, key=lambda mark: mark.start):
        first, last = _at_words(text, mark.start - _AROUND, mark.end + _AROUND)
        if windows and first <= windows[-1][1]:
            windows[-1] = (windows[-1][0], max(last, windows[-1][1]))
        else:
            windows.append((first, last))
    return windows


def _at_words(text: str, first: int, last: int) -> tuple[int, int]:
    """A part of the text made a little smaller so that no word is cut."""
    spaces = [
        place for place in range(max(0, first), max(0, first) + _AROUND // 3) if text[place : place + 1].isspace()
    ]
    begin = 0 if first <= 0 else spaces[0] + 1 if spaces else first
    spaces = [place for place in range(last - _AROUND // 3, last) if text[place : place + 1].isspace()]
    return begin, len(text) if last >= len(text) else spaces[-1] if spaces else last


def _over(marks: tuple[Mark, ...], start: int, end: int) -> list[str]:
    return [mark.label for mark in marks if mark.start <= start and end <= mark.end]


def _cut(text: str) -> str:
    return text if len(text) <= _ROOM else f"{text[:_ROOM]} …"


def _known(value: float) -> float | None:
    return None if value != value else float(value)
