"""Texts of words with their tags, in memory.

Shapes: N texts, W words of all texts.
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bothways.chance import generator
from bothways.errors import BothwaysError, closest
from bothways.learn.tasks.protocol import Mark
from bothways.text.encoded import gather_index
from bothways.text.kept import Texts
from bothways.text.tag_schemes import Read, Spans, TagSet, check_scheme, find_spans, in_scheme, read_tags
from bothways.text.tagged_rows import TaggedRow, read_tagged

_MARKS = frozenset(",;:!?")


@dataclass(frozen=True)
class TaggedTexts:
    """Texts whose words have tags.

    Attributes:
        texts: The N texts.
        offsets: ``(W, 2)`` int32 characters of the text that each word covers.
        edges: ``(N + 1,)`` where each text's words begin; the last entry is W.
        tags: ``(W,)`` int32 the number of each word's tag.
        names: Of the tags.
        scheme: That they are written in: ``BIO``, ``BIOES``, ``BILOU`` or ``words``.
        told: How they were read, in words.
        by_spaces: Whether marks such as commas belong to the words before them.
        name: Where they came from, for messages.
        where: Where each stands there, such as "train.conll, line 12".
    """

    texts: Texts
    offsets: np.ndarray
    edges: np.ndarray
    tags: np.ndarray
    names: tuple[str, ...]
    scheme: str
    told: str
    by_spaces: bool
    name: str
    where: Texts = field(repr=False)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def tag_set(self) -> TagSet:
        """The tags taken apart."""
        return TagSet(self.names, plain=self.scheme == "words")

    def words(self) -> Iterator[list[str]]:
        """The words of each text."""
        for text, (begin, end) in zip(self.texts, itertools.pairwise(self.edges.tolist()), strict=True):
            yield [text[start:stop] for start, stop in self.offsets[begin:end].tolist()]

    def take(self, places: Sequence[int] | np.ndarray, name: str) -> TaggedTexts:
        """Some of them, in the order given."""
        rows = np.asarray(places, dtype=np.int64)
        lengths = np.diff(self.edges)[rows]
        words = gather_index(self.edges[rows], lengths)
        return TaggedTexts(
            self.texts.take(rows),
            self.offsets[words],
            np.cumsum([0, *lengths]),
            self.tags[words],
            self.names,
            self.scheme,
            self.told,
            self.by_spaces,
            name,
            self.where.take(rows),
        )

    def describe(self) -> dict[str, object]:
        """Where they came from, how many they are, and a hash of texts, words and tags, for the record of a run."""
        found = hashlib.sha256()
        for text in (*self.names, self.scheme, *self.texts):
            found.update(f"{text}\0".encode("utf-8", "surrogatepass"))
        for column in (self.offsets, self.edges, self.tags):
            found.update(np.ascontiguousarray(column).tobytes())
        return {"name": self.name, "examples": len(self), "words": len(self.tags), "sha256": found.hexdigest()}

    def inputs(self) -> Sequence[str]:
        """The texts."""
        return self.texts

    def truths(self) -> list[str]:
        """What is marked in each text, or the tags of its words where they mark nothing."""
        return said_of(self, self.tags)

    def class_counts(self) -> dict[str, int]:
        """How many spans each kind has, or words each tag where they mark nothing."""
        if self.scheme == "words":
            return dict(zip(self.names, np.bincount(self.tags, minlength=len(self.names)).tolist(), strict=True))
        kinds = self.tag_set.kinds
        spans = find_spans(self.tag_set, self.tags, self.edges)
        return dict(zip(kinds, np.bincount(spans.kind, minlength=len(kinds)).tolist(), strict=True))


def marks_of(data: TaggedTexts, spans: Spans) -> list[tuple[Mark, ...]]:
    """The parts of each text that some spans of words cover."""
    found: list[list[Mark]] = [[] for _ in data.texts]
    kinds = data.tag_set.kinds
    rows = np.searchsorted(data.edges, spans.first, "right") - 1
    begins, ends = data.offsets[spans.first, 0], data.offsets[spans.last, 1]
    for row, begin, end, kind in zip(rows.tolist(), begins.tolist(), ends.tolist(), spans.kind.tolist(), strict=True):
        found[row].append(Mark(begin, end, kinds[kind]))
    return [tuple(marks) for marks in found]


def said_of(data: TaggedTexts, tags_W: np.ndarray) -> list[str]:
    """Tags as people read them: ``Ada Lovelace (PER), Paris (LOC)``, or a tag a word where they write no spans.

    Args:
        data: The texts.
        tags_W: ``(W,)`` their tags, numbered as theirs.
    """
    if data.scheme == "words":
        names, tags, edges = data.names, tags_W.tolist(), data.edges.tolist()
        return [" ".join(names[tag] for tag in tags[a:b]) for a, b in itertools.pairwise(edges)]
    marks = marks_of(data, find_spans(data.tag_set, tags_W, data.edges))
    return [
        ", ".join(f"{text[mark.start : mark.end]} ({mark.label})" for mark in own)
        for text, own in zip(data.texts, marks, strict=True)
    ]


def read_texts(source: Any, text: str | None, label: str | None, scheme: str | None, align: str) -> TaggedTexts:
    """Reads tagged texts into memory.

    Args:
        source: As `read_tagged` takes it.
        text: The column of words.
        label: The column of tags.
        scheme: How tags write spans; None finds it out.
        align: ``"strict"`` or ``"expand"``, for parts of texts that end inside words.

    Raises:
        BothwaysError: A row is wrong, schemes are mixed, or there is no row.
    """
    if isinstance(source, TaggedTexts):
        return source
    check_scheme(scheme)
    name, rows = read_tagged(source, text, label, expand=align == "expand")
    texts, places = Texts(), Texts()
    offsets, tags, edges = array("i"), array("i"), array("q", [0])
    numbers: dict[str, int] = {}
    marked = False
    commas = _Commas()
    for row in rows:
        texts.append(row.text)
        places.append(row.where)
        for pair in row.offsets:
            offsets.extend(pair)
        tags.extend(numbers.setdefault(tag, len(numbers)) for tag in row.tags)
        edges.append(len(tags))
        marked = marked or row.marked
        commas.count(row)
    if not texts:
        raise BothwaysError(f"{name} holds no words with tags")
    ends = np.frombuffer(edges, dtype=np.int64)  # not copied
    read = read_tags(
        list(numbers), np.frombuffer(tags, dtype=np.int32), ends, places.__getitem__, "BIO" if marked else scheme
    )
    return TaggedTexts(
        texts,
        np.frombuffer(offsets, dtype=np.int32).reshape(-1, 2),
        ends,
        read.tags.astype(np.int32),
        read.names,
        read.scheme,
        _told(read, marked),
        commas.glued,
        name,
        places,
    )


def _told(read: Read, marked: bool) -> str:
    """How tags were read, in words."""
    if marked:
        return "marked parts of texts"
    told = "a tag a word" if read.scheme == "words" else f"spans in {read.found}"
    if read.found != read.scheme:
        told += f", learned as {read.scheme}"
    if read.repaired:
        told += f" ({read.repaired:,} of {len(read.tags):,} tags did not fit their neighbours and were repaired)"
    return told


class _Commas:
    """Counts marks that stand by themselves and marks that end words, where words were given."""

    def __init__(self) -> None:
        self.alone = self.ending = 0

    def count(self, row: TaggedRow) -> None:
        """Counts those of a text."""
        if row.marked:
            self.alone += 1
            return
        for start, end in row.offsets:
            if end > start and row.text[end - 1] in _MARKS:
                if end - start > 1:
                    self.ending += 1
                else:
                    self.alone += 1

    @property
    def glued(self) -> bool:
        """Whether they mostly end words."""
        return self.ending > self.alone


def split_texts(data: TaggedTexts, share: float, seed: int) -> tuple[TaggedTexts, TaggedTexts]:
    """Holds out a share of the texts; what is left has every kind of tag that the rest has.

    Args:
        data: At least two texts.
        share: Of the second part.
        seed: Of the choice.
    """
    count = max(1, round(share * len(data)))
    left = np.bincount(data.tags, minlength=len(data.names))
    held: list[int] = []
    for row in generator("split", seed).permutation(len(data)).tolist():
        own = np.bincount(data.tags[data.edges[row] : data.edges[row + 1]], minlength=len(data.names))
        if ((left > own) | (own == 0)).all():
            held.append(row)
            left -= own
        if len(held) == count:
            break
    held = sorted(held) or [0]
    kept = np.setdiff1d(np.arange(len(data)), held)
    return data.take(kept, data.name), data.take(held, f"the part of {data.name} held out")


def aligned(data: TaggedTexts, labels: Sequence[str], scheme: str) -> TaggedTexts:
    """The same texts with their tags numbered, and written, as a model's are.

    Args:
        data: Texts with tags of any scheme.
        labels: The names of the model's tags.
        scheme: What they are written in.

    Raises:
        BothwaysError: The model does not know a tag, or a kind of spans: which, where, and the closest that it does.
    """
    if "words" in (data.scheme, scheme):
        number = {name: place for place, name in enumerate(labels)}
        table = np.array([number.get(name, -1) for name in data.names])
        tags = table[data.tags]
        known, said = labels, [f"the tag {name!r}" for name in data.names]
    else:
        tag_set, own = data.tag_set, TagSet(labels)
        tags = in_scheme(tag_set, data.tags, data.edges, labels, scheme)
        known = own.kinds
        said = [f"a span {tag_set.kinds[kind]!r}" if kind >= 0 else "" for kind in tag_set.kind]
    if (tags < 0).any():
        word = int(np.argmax(tags < 0))
        row = int(np.searchsorted(data.edges, word, "right")) - 1
        start, end = data.offsets[word].tolist()
        tag = int(data.tags[word])
        name = data.names[tag] if known is labels else data.tag_set.kinds[data.tag_set.kind[tag]]
        raise BothwaysError(
            f"{data.where[row]}: word {word - int(data.edges[row]) + 1} ({data.texts[row][start:end]!r:.40}) has "
            f"{said[tag]}, which was not seen in training; known are {', '.join(known[:12])}{closest(name, known)}"
        )
    return replace(data, tags=tags.astype(np.int32), names=tuple(labels), scheme=scheme)
