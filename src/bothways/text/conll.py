"""Columns of words and tags, as the shared tasks of CoNLL have them: 2000, 2003 and the treebanks' CoNLL-U.

One word a line, its columns parted by spaces or tabs; a blank line ends a sentence. CoNLL-U (Nivre et al. 2016,
universaldependencies.org/format.html) has ten columns, comments, and numbered lines that are no words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from bothways.errors import BothwaysError, closest
from bothways.text.tables import Lines

CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
"""The columns of a treebank."""
NUMBER = r"\d+([-.]\d+)?"
"""How lines of a treebank begin: with the number of a word, of several (1-2), or of one that is not written (4.1)."""
_NAMES = {
    2: ("words", "tags"),
    3: ("words", "pos", "chunks"),
    4: ("words", "pos", "chunks", "ner"),
    5: ("words", "lemma", "pos", "chunks", "ner"),
}
_DOCUMENT = "-DOCSTART-"
_SPACES = re.compile(r"[ \t]+")  # others may belong to a word


class Sentence(NamedTuple):
    """Words and tags of one sentence, and where it begins, for messages."""

    where: str
    words: list[str]
    tags: list[str]


class _Format(NamedTuple):
    """How lines are cut: by tabs or spaces, how many columns, which are wanted; and the line that tells."""

    tabs: bool
    columns: int
    word: int
    tag: int
    treebank: bool
    comments: bool
    line: int


def read_conll(lines: Lines, name: str, label: str | None = None, *, tagged: bool = True) -> Iterator[Sentence]:
    """The sentences of a file of columns.

    Args:
        lines: Numbered lines.
        name: What the file is called in messages.
        label: The column of tags by name (``upos``, ``xpos``; ``pos``, ``chunks``, ``ner``) or number from 1; None
            takes ``upos`` of CoNLL-U, else the last column.
        tagged: Whether words need tags; else those of a file of one column are empty.

    Raises:
        BothwaysError: There is no such column, or a line has more or fewer columns than the first.
    """
    format_, lines = _format(lines, name, label, tagged)
    words: list[str] = []
    tags: list[str] = []
    began = 0
    for number, line in chain(lines, [(0, "")]):
        if not line.strip():
            if words:
                yield Sentence(f"{name}, line {began}", words, tags)
                words, tags = [], []
            continue
        fields = _fields(line, format_.tabs)
        said = format_.comments and (format_.treebank or line.startswith("# "))  # "#London" is a word, but in treebanks
        comment = line.startswith("#") and (said or len(fields) != format_.columns)
        if (comment and not words) or fields[0] == _DOCUMENT:
            continue
        if len(fields) != format_.columns:
            raise BothwaysError(
                f"{name}, line {number}: {len(fields)} columns where line {format_.line} has {format_.columns}; part "
                f"them by {'tabs' if format_.tabs else 'spaces'} and sentences by blank lines"
            )
        if format_.treebank and not fields[0].isdigit():  # a word of several tokens, or one that is not written
            continue
        word, tag = fields[format_.word], fields[format_.tag] if format_.columns > 1 else ""
        if not word or (tagged and not tag):
            raise BothwaysError(f"{name}, line {number}: there is no {'tag' if word else 'word'}; each line needs both")
        began = began if words else number
        words.append(word)
        tags.append(tag)


def _fields(line: str, tabs: bool) -> list[str]:
    return line.rstrip(" ").split("\t") if tabs else _SPACES.split(line.strip(" \t"))


def _format(lines: Lines, name: str, label: str | None, tagged: bool) -> tuple[_Format, Lines]:
    """The format, as the first line of a word tells it, and all lines again."""
    passed: list[tuple[int, str]] = []
    for number, line in lines:
        passed.append((number, line))
        if not line.strip() or line.startswith(("# ", _DOCUMENT)) or (line.startswith("#") and "\t" not in line):
            continue
        tabs = "\t" in line
        fields = _fields(line, tabs)
        treebank = tabs and len(fields) == len(CONLLU) and re.fullmatch(NUMBER, fields[0]) is not None
        if tagged and len(fields) < 2:
            raise BothwaysError(
                f"{name}, line {number}: one column where words and tags are expected; write a word and its tag a "
                "line, or a JSON object with tokens and tags"
            )
        names = CONLLU if treebank else _NAMES.get(len(fields), ("words", *("?",) * (len(fields) - 2), "tags"))
        tag = _column(names, label, name) if label else CONLLU.index("upos") if treebank else len(fields) - 1
        first = next(earlier for _, earlier in passed if earlier.strip())
        comments = treebank or (first.startswith("# ") and not first.startswith("# # "))  # "#" is a word in some files
        return _Format(tabs, len(fields), int(treebank), tag, treebank, comments, number), chain(passed, lines)
    raise BothwaysError(f"{name} holds no words with tags")


def _column(names: tuple[str, ...], label: str, where: str) -> int:
    if label.isdigit() and 1 <= int(label) <= len(names):
        return int(label) - 1
    if label in names and label != "?":
        return names.index(label)
    known = ", ".join(name for name in names if name != "?")
    raise BothwaysError(
        f"{where} has no column {label!r} (columns: {known}, or their numbers 1 to {len(names)}){closest(label, names)}"
    )
