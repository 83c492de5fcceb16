"""Marks around entities: what a text-level classifier needs to know which entities it is asked about.

The markers are ordinary text, so any tokenizer and any saved model bear them; the classifier reads the marked text as
any other (Soares et al. 2019, "Matching the Blanks", compare this with reading the states at the markers).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bothways.errors import BothwaysError
from bothways.text.tables import Row

HEAD_AND_TAIL = (("head_start", "head_end"), ("tail_start", "tail_end"))
ONE_EACH = ((("start_a", "end_a"), ("start_b", "end_b")), (("start1", "end1"), ("start2", "end2")))
ONE = ("start", "end")
FIRST, SECOND = 0, 1


@dataclass(frozen=True)
class Span:
    """Which columns say where an entity lies.

    Attributes:
        which: In the first text or in the second: `FIRST` or `SECOND`.
        start: The column of its first character.
        end: The column of the character behind its last.
        markers: What is put before and behind it.
    """

    which: int
    start: str
    end: str
    markers: tuple[str, str]


def check_markers(markers: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Two or four markers, from a list or from one string with spaces between them.

    Raises:
        BothwaysError: They are another number.
    """
    if markers is None:
        return None
    found = tuple(markers.split()) if isinstance(markers, str) else tuple(markers)
    if len(found) not in (2, 4) or not all(found):
        raise BothwaysError(
            f"markers must be two (around one entity) or four (around head and tail), such as '<< >> [[ ]]', not "
            f"{' '.join(found)!r}"
        )
    return found


@dataclass(frozen=True)
class Marking:
    """How the texts of a table get their markers.

    Attributes:
        markers: Two or four, or none.
        spans: Where entities lie; none where the texts hold their markers already.
        wanted: The columns that would say so, for messages.
    """

    markers: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    wanted: tuple[str, ...] = ()

    def apply(self, row: Row, texts: tuple[str, str | None], where: str) -> tuple[str, str | None]:
        """The texts of a row with markers around its entities.

        Raises:
            BothwaysError: An entity does not lie within its text, two cross, or there is neither entity nor marker.
        """
        if self.markers and not self.spans:
            missing = [marker for marker in self.markers if marker not in (texts[FIRST] or "")]
            if missing:
                raise BothwaysError(
                    f"{where}: the text holds no marker {missing[0]!r}, and no columns {', '.join(self.wanted)} say "
                    "where its entities are"
                )
            return texts
        placed: tuple[list[tuple[int, int, tuple[str, str]]], ...] = ([], [])
        for span in self.spans:
            start, end = (_place(row.get(column), column, where) for column in (span.start, span.end))
            text = texts[span.which] or ""
            if not 0 <= start < end <= len(text):
                raise BothwaysError(
                    f"{where}: {span.start} {start} and {span.end} {end} are no part of its {len(text)} characters"
                )
            placed[span.which].append((start, end, span.markers))
        first, second = texts
        return mark(first, placed[FIRST], where), None if second is None else mark(second, placed[SECOND], where)


def find_marking(columns: Sequence[str], markers: Sequence[str] | None, pairs: bool, name: str) -> Marking:
    """How the rows of a table get their markers.

    ``head_start``, ``head_end``, ``tail_start`` and ``tail_end`` mark two entities of one text and want four markers;
    ``start_a``, ``end_a``, ``start_b`` and ``end_b`` (or ``start1`` ...) one in each of two texts, ``start`` and
    ``end`` one in one text, and want two. Where there is none of these columns the texts hold their markers already.

    Args:
        columns: Of the table.
        markers: Two or four; None for none.
        pairs: Whether there are second texts.
        name: Of the table, for messages.

    Raises:
        BothwaysError: Some of the columns are there and others not.
    """
    if not markers:
        return Marking()
    first, last = (markers[0], markers[1]), (markers[-2], markers[-1])
    if len(markers) == 4:
        ways: list[tuple[Span, ...]] = [(Span(FIRST, *HEAD_AND_TAIL[0], first), Span(FIRST, *HEAD_AND_TAIL[1], last))]
    elif pairs:
        ways = [(Span(FIRST, *one, first), Span(SECOND, *other, first)) for one, other in ONE_EACH]
    else:
        ways = [(Span(FIRST, *ONE, first),)]
    named = [tuple(column for span in way for column in (span.start, span.end)) for way in ways]
    for way, wanted in zip(ways, named, strict=True):
        missing = [column for column in wanted if column not in columns]
        if not missing:
            return Marking(tuple(markers), way, wanted)
        if len(missing) < len(wanted):
            raise BothwaysError(f"{name} lacks the column {missing[0]} that says where a marker goes")
    return Marking(tuple(markers), (), named[0])


def mark(text: str, spans: Sequence[tuple[int, int, tuple[str, str]]], where: str = "the text") -> str:
    """A text with markers around some of its parts, which may lie within each other.

    Args:
        text: Any.
        spans: ``(start, end, (before, behind))``, in characters.
        where: For the message.

    Raises:
        BothwaysError: Two parts cross.
    """
    for one in spans:
        for other in spans:
            if one[0] < other[0] < one[1] < other[1]:
                raise BothwaysError(
                    f"{where}: two entities cross, {text[one[0] : one[1]]!r} and {text[other[0] : other[1]]!r}"
                )
    # at one place: what ends there, the inner first; then what begins there, the outer first
    edges = [(start, 1, -end, f"{marks[0]} ") for start, end, marks in spans]
    edges += [(end, 0, -start, f" {marks[1]}") for start, end, marks in spans]
    parts, reached = [], 0
    for place, _, _, marker in sorted(edges):
        parts += [text[reached:place], marker]
        reached = place
    return "".join([*parts, text[reached:]])


def _place(value: object, column: str, where: str) -> int:
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise BothwaysError(f"{where}: {column} should be a place in the text, in characters, not {value!r}") from None
    return int(number)
