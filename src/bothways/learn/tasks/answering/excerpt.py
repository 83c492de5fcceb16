"""What of a long text is shown of a judged answer: the parts around what is right and what was said."""

from __future__ import annotations

from collections.abc import Sequence

from bothways.learn.tasks.protocol import Mark
from bothways.text.answer_places import Place

_WHOLE, _AROUND, _GAP = 2000, 300, " ... "


def shown(
    question: str, context: str, right: Sequence[Place], said: Sequence[Place]
) -> tuple[str, list[Mark], list[Mark]]:
    """A question above its context, and the marks in that text.

    Args:
        question: The question.
        context: Its text; of one with more than 2,000 characters the parts around the places.
        right: The right places, ``context[start:end]``.
        said: Those that the model gave.

    Returns:
        The text, the marks of the right places and of the others, none twice.
    """
    parts = [(0, len(context))] if len(context) <= _WHOLE else _around([*right, *said], len(context))
    text, moved = question + "\n", []
    for start, end in parts:
        text += _GAP if start else ""
        moved.append((start, end, len(text) - start))
        text += context[start:end]
    text += _GAP if parts[-1][1] < len(context) else ""

    def marks(places: Sequence[Place]) -> list[Mark]:
        kept = [(place, by) for place in dict.fromkeys(places) for a, b, by in moved if a <= place[0] and place[1] <= b]
        return [Mark(start + by, end + by, "answer") for (start, end), by in kept]

    return text, marks(right), marks(said)


def _around(places: Sequence[Place], length: int) -> list[Place]:
    """Parts of a text around some places, in order, those that meet put together; or the beginning."""
    parts: list[Place] = []
    for start, end in sorted(places) or [(0, 0)]:
        begin, stop = max(0, start - _AROUND), min(length, end + _AROUND)
        if parts and begin <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(stop, parts[-1][1]))
        else:
            parts.append((begin, stop))
    return parts
