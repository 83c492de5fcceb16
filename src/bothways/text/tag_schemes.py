"""How tags write spans: BIO, IOB1, BIOES, BILOU, told apart, repaired and turned into each other.

Sang and Veenstra 1999, "Representing Text Chunks"; Ratinov and Roth 2009, "Design Challenges and Misconceptions in
Named Entity Recognition". Tags that write no spans, such as parts of speech, have the scheme ``words``.

Shapes: N texts, W words of all texts, C tags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bothways.errors import BothwaysError, closest
from bothways.text.encoded import gather_index

SCHEMES = ("BIO", "IOB1", "BIOES", "BILOU", "words")
OUTSIDE, BEGIN, INSIDE, END, SINGLE, WORD = range(6)
"""What a tag says of its word: outside of spans; the begin, inside, end or whole of one; nothing about spans."""
_ROLES = {"B": BEGIN, "I": INSIDE, "M": INSIDE, "E": END, "L": END, "S": SINGLE, "U": SINGLE}
_LETTERS = {"BIO": "OBI", "BIOES": "OBIES", "BILOU": "OBILU"}
_SPAN_TAG = re.compile(r"([BIMELSU])-(.+)", re.DOTALL)
_MIXED_LEAST, _MIXED_SHARE = 10, 0.2
"""Below so many, or such a share of all, what does not fit a scheme is repaired as a slip; above, schemes are mixed."""


class TagSet:
    """The names of C tags, taken apart.

    Args:
        names: Such as ``("O", "B-PER", "I-PER")``.
        plain: Whether they say nothing about spans whatever they look like.

    Attributes:
        kinds: Names of the kinds of spans.
        role: ``(C,)`` what each tag says.
        kind: ``(C,)`` the number of its kind, -1 for none.
    """

    def __init__(self, names: Sequence[str], *, plain: bool = False) -> None:
        self.names = tuple(names)
        split = [None if plain else _taken_apart(name, names) for name in names]
        self.kinds = tuple(sorted({kind for _, kind in filter(None, split)}))
        number = {kind: place for place, kind in enumerate(self.kinds)}
        outside = not plain and "O" in names and any(split)
        self.role = np.array(
            [
                OUTSIDE if outside and name == "O" else _ROLES[part[0]] if part else WORD
                for name, part in zip(names, split, strict=True)
            ],
            dtype=np.int8,
        )
        self.kind = np.array([number[part[1]] if part else -1 for part in split], dtype=np.int64)

    @property
    def letters(self) -> set[str]:
        """The first letters of the tags of spans."""
        return {name[0] for name, role in zip(self.names, self.role, strict=True) if role not in (OUTSIDE, WORD)}


def _taken_apart(name: str, names: Sequence[str]) -> tuple[str, str] | None:
    if name in _ROLES and {"B", "O"} <= set(names):  # spans of a single kind without a name
        return name, ""
    match = _SPAN_TAG.fullmatch(name)
    return (match[1], match[2]) if match else None


class Spans(NamedTuple):
    """Spans of words, in order: ``(M,)`` the first word, the last word and the kind of each."""

    first: np.ndarray
    last: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class Read:
    """Tags as they are kept.

    Attributes:
        names: Of the tags, all that the scheme has for each kind.
        tags: ``(W,)`` their numbers.
        scheme: That they are kept in: ``BIO``, ``BIOES``, ``BILOU`` or ``words``.
        found: That they were read in.
        repaired: Words whose tag was changed because it did not fit its neighbours.
    """

    names: tuple[str, ...]
    tags: np.ndarray
    scheme: str
    found: str
    repaired: int


def read_tags(
    names: Sequence[str], tags_W: np.ndarray, edges: np.ndarray, where: Callable[[int], str], scheme: str | None = None
) -> Read:
    """Finds out the scheme of some tags and repairs what does not fit it; IOB1 becomes BIO.

    Args:
        names: Of the C tags.
        tags_W: ``(W,)`` the tag of each word.
        edges: ``(N + 1,)`` where each text's words begin.
        where: The place of a text, for messages.
        scheme: What the scheme is, if known.

    Raises:
        BothwaysError: There is no such scheme, or several are mixed; the sentence names the first text that differs.
    """
    check_scheme(scheme)
    tag_set = TagSet(names, plain=scheme == "words")
    place = _Places(tags_W, edges, where)
    found = scheme or _infer(tag_set, tags_W, edges, place)
    if found == "words":
        return Read(tag_set.names, tags_W, found, found, 0)
    wrong = np.flatnonzero(tag_set.role == WORD)
    if len(wrong):
        raise _no_span(tag_set, int(wrong[0]), place)
    kept = "BIO" if found == "IOB1" else found
    kept_names = tag_names(tag_set.kinds, kept)
    written = in_scheme(tag_set, tags_W, edges, kept_names, kept)
    if found == "IOB1":
        return Read(kept_names, written, kept, found, 0)
    kept_set = TagSet(kept_names)  # of the same kinds; "M-" for "I-" is another letter, no repair
    repaired = tag_set.role[tags_W] != kept_set.role[written]
    repaired |= tag_set.kind[tags_W] != kept_set.kind[written]
    return Read(kept_names, written, kept, found, int(repaired.sum()))


def check_scheme(scheme: str | None) -> None:
    """Raises a BothwaysError when there is no such scheme."""
    if scheme is not None and scheme not in SCHEMES:
        raise BothwaysError(f"the scheme must be one of {', '.join(SCHEMES)}, not {scheme!r}{closest(scheme, SCHEMES)}")


def scheme_of(names: Sequence[str]) -> str:
    """The scheme that tags of a model are written in, told from their names alone."""
    tag_set = TagSet(names)
    if (tag_set.role == WORD).any() or not tag_set.kinds:
        return "words"
    return "BILOU" if tag_set.letters & set("LU") else "BIOES" if tag_set.letters & set("ES") else "BIO"


def tag_names(kinds: Sequence[str], scheme: str) -> tuple[str, ...]:
    """All tags of a scheme for some kinds of spans: ``O`` first."""
    letters = _LETTERS[scheme][1:]
    return ("O", *(f"{letter}-{kind}" if kind else letter for kind in kinds for letter in letters))


def find_spans(tag_set: TagSet, tags_W: np.ndarray, edges: np.ndarray) -> Spans:
    """The spans that tags write, by the rules of the CoNLL shared tasks' ``conlleval``.

    A span begins at B-, at a change of the kind, and wherever anything of it follows what ended one; a repair is
    therefore never needed before spans are found. E- and L-, S- and U- end one, which ``conlleval`` knows of E- only.
    """
    role, kind = tag_set.role[tags_W], tag_set.kind[tags_W]
    inside, starts = _starts(role, kind, edges)
    ends = inside & ~np.append((inside & ~starts)[1:], False)
    first = np.flatnonzero(starts)
    return Spans(first, np.flatnonzero(ends), kind[first])


def _starts(role: np.ndarray, kind: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``(W,)`` which words are in spans, and at which one begins."""
    inside = (role != OUTSIDE) & (role != WORD)
    goes_on = np.zeros(len(role), dtype=bool)
    goes_on[1:] = inside[:-1] & ((role[:-1] == BEGIN) | (role[:-1] == INSIDE)) & (kind[1:] == kind[:-1])
    goes_on[edges[:-1][edges[:-1] < len(role)]] = False
    return inside, inside & ((role == BEGIN) | (role == SINGLE) | ~goes_on)


def write_spans(spans: Spans, words: int, names: Sequence[str], kinds: Sequence[str], scheme: str) -> np.ndarray:
    """``(W,)`` the tags that write some spans.

    Args:
        spans: What is to be written; neighbouring spans of one text and kind are told apart in every scheme.
        words: W.
        names: Of the tags to write in.
        kinds: Names of the spans' kinds.
        scheme: ``BIO``, ``BIOES`` or ``BILOU``.
    """
    role = np.zeros(words, dtype=np.int8)
    kind = np.full(words, -1)
    sizes = spans.last - spans.first + 1
    covered = gather_index(spans.first, sizes)
    role[covered], kind[covered] = INSIDE, np.repeat(spans.kind, sizes)
    role[spans.first] = BEGIN
    if scheme in ("BIOES", "BILOU"):
        role[spans.last] = END
        role[spans.first[spans.first == spans.last]] = SINGLE
    number = {name: place for place, name in enumerate(names)}
    letters = _LETTERS[scheme]
    table = np.full((len(kinds) + 1, SINGLE + 1), number.get("O", -1))
    for place, one in enumerate(kinds):
        for which, letter in enumerate(letters[1:], start=1):
            table[place, which] = number.get(f"{letter}-{one}" if one else letter, -1)
    return table[kind, role]


def in_scheme(tag_set: TagSet, tags_W: np.ndarray, edges: np.ndarray, names: Sequence[str], scheme: str) -> np.ndarray:
    """``(W,)`` the same spans in other tags; -1 where `names` lack the tag."""
    return write_spans(find_spans(tag_set, tags_W, edges), len(tags_W), names, tag_set.kinds, scheme)


class Allowed(NamedTuple):
    """``(C, C)`` which tag (column) may follow which (row), ``(C,)`` begin and ``(C,)`` end a text."""

    follows: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


def allowed(names: Sequence[str], scheme: str) -> Allowed:
    """The constraints of a scheme: every span that is begun goes on as it must, and none goes on that was not begun."""
    count = len(names)
    if scheme == "words":
        return Allowed(np.ones((count, count), bool), np.ones(count, bool), np.ones(count, bool))
    tag_set = TagSet(names)
    role, kind = tag_set.role, tag_set.kind
    begun = (role == BEGIN) | (role == INSIDE)
    goes_on = (role == INSIDE) | (role == END)
    same = begun[:, None] & (kind[:, None] == kind[None, :])
    follows = np.where(goes_on[None, :], same, True)
    if scheme in ("BIOES", "BILOU"):  # what is begun must end
        follows &= np.where(begun[:, None], goes_on[None, :], True)
        return Allowed(follows, ~goes_on, ~begun)
    return Allowed(follows, ~goes_on, np.ones(count, bool))


class _Places:
    """Where a word, or a tag, first stands, for messages."""

    def __init__(self, tags_W: np.ndarray, edges: np.ndarray, where: Callable[[int], str]) -> None:
        self.tags, self.edges, self.where = tags_W, edges, where

    def of_word(self, word: int) -> str:
        return self.where(int(np.searchsorted(self.edges, word, "right")) - 1)

    def of_tag(self, tag: int) -> str:
        found = np.flatnonzero(self.tags == tag)
        return self.of_word(int(found[0])) if len(found) else "the data"


def _infer(tag_set: TagSet, tags_W: np.ndarray, edges: np.ndarray, place: _Places) -> str:
    plain = np.flatnonzero(tag_set.role == WORD)
    if len(plain) == len(tag_set.names) or (len(plain) and OUTSIDE not in tag_set.role):
        return "words"
    if len(plain):
        raise _no_span(tag_set, int(plain[0]), place)
    letters = tag_set.letters
    if letters & set("ES") and letters & set("LU"):
        other = next(n for n, name in enumerate(tag_set.names) if name[0] in "LU")
        raise BothwaysError(
            f"{place.of_tag(other)}: the tag {tag_set.names[other]!r} is of the scheme BILOU, others are of BIOES; "
            "write all in one scheme"
        )
    role, kind = tag_set.role[tags_W], tag_set.kind[tags_W]
    inside, starts = _starts(role, kind, edges)
    if letters & set("ESLU"):
        found = "BILOU" if letters & set("LU") else "BIOES"
        spans = find_spans(tag_set, tags_W, edges)
        alone = spans.first == spans.last
        wrong = spans.last[np.where(alone, role[spans.last] != SINGLE, role[spans.last] != END)]
        _check_mixed(wrong, len(spans.first) - len(wrong), found, "BIO", place)
        return found
    unbegun = np.flatnonzero(starts & (role == INSIDE))  # right in IOB1 alone
    free = starts & (role == BEGIN)  # right in BIO alone, unless the word before is of the same kind
    free[1:] &= ~(inside[:-1] & (kind[:-1] == kind[1:]) & ~np.isin(np.arange(1, len(role)), edges))
    begun = np.flatnonzero(free)
    found = "IOB1" if len(unbegun) > len(begun) else "BIO"
    few, many = (begun, unbegun) if found == "IOB1" else (unbegun, begun)
    _check_mixed(few, len(many), found, "BIO" if found == "IOB1" else "IOB1", place)
    return found


def _check_mixed(wrong: np.ndarray, right: int, scheme: str, other: str, place: _Places) -> None:
    if len(wrong) >= _MIXED_LEAST and len(wrong) > _MIXED_SHARE * (len(wrong) + right):
        raise BothwaysError(
            f"{place.of_word(int(wrong[0]))}: a span is written as in the scheme {other}, but {right:,} others as in "
            f"{scheme}; write all in one scheme, or say scheme={scheme!r} to have the {len(wrong):,} repaired"
        )


def _no_span(tag_set: TagSet, tag: int, place: _Places) -> BothwaysError:
    other = next(
        (name for name, role in zip(tag_set.names, tag_set.role, strict=True) if role in (BEGIN, INSIDE)), "B-"
    )
    return BothwaysError(
        f"{place.of_tag(tag)}: the tag {tag_set.names[tag]!r} does not say how it begins or goes on, as {other!r} "
        "does; write all tags in one scheme, or say --scheme words (in Python scheme='words') if they are none"
    )
