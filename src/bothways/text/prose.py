"""The English paragraphs of a docstring, whichever of the usual conventions it is written in.

Two steps: the lines are grouped into paragraphs by blank lines, indentation, bullets and parameter lists, leaving out
code, doctests, tables, references and headings; then markup is taken off and what does not read as English is dropped.
"""

from __future__ import annotations

import re
from inspect import cleandoc

_CODE = re.compile(r">>>|In \[\d*\]:|\$ |@\w|#include|\.\.\. ?$")
_FENCE = re.compile(r"```")
_TABLE = re.compile(r"[+|]|[-=]{2,}[ |+]")
_UNDERLINE = re.compile(r"([-=~^\"*+#`'._])\1{2,}")
_DIRECTIVE = re.compile(r"\.\. +([\w:-]+?):: *(.*)")
_SPEAKING = frozenset(
    ["note", "warning", "tip", "hint", "important", "attention", "caution", "danger", "seealso", "topic"]
)
_BULLET = re.compile(r"(?:[-*+•o]|\(?(?:\d{1,2}|[a-zA-Z])[.)]) +")
_FIELD = re.compile(
    r"[:@](?:param|parameter|arg|argument|key|keyword|return|raise|yield|var|ivar|cvar)s?\b[^:]*: *(.*)"
)
_OTHER_FIELD = re.compile(r"[:@]\w[^:`]*:(?!`)")  # :type x: int
_TYPED = re.compile(r"[^\s:]+(?:, [^\s:]+)* +:(?: .*)?")  # numpydoc: "x, y : array_like, optional"
_NAMED = re.compile(  # "x (int): The first number"
    r"[`*]{0,2}\w[\w.\[\]*`]*(?: *\([^()]*(?:\([^()]*\))?[^()]*\)|\[[^\]]*\])?`?:(?: +|$)(.*)"
)
_SECTION = re.compile(
    r"(arg(ument)?s?|param(eter)?s?|attributes?|returns?|yields?|raises|warns|examples?|notes?|usage|references?|"
    r"see also)::?",
    re.IGNORECASE,
)
_SILENT_SECTIONS = frozenset(["references", "reference", "see also", "see"])


def paragraphs(docstring: str) -> list[str]:
    """The paragraphs of a docstring that read as English prose.

    Args:
        docstring: As it stands in the source, with its indentation.

    Returns:
        Paragraphs without line breaks and markup, in order.
    """
    found = _Paragraphs()
    for line in cleandoc(docstring).split("\n"):
        found.add(line)
    found.end()
    return [text for text in map(_without_markup, found.done) if _reads_as_english(text)]


class _Paragraphs:
    """Groups lines into paragraphs, one line at a time."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.lines: list[str] = []  # of the present paragraph
        self.indent = 0  # of its first line
        self.hanging = False  # whether its other lines are indented deeper, as in a bullet
        self.skip_deeper: int | None = None  # lines indented deeper than this are code
        self.in_fence = self.in_doctest = self.in_silent_section = False

    def end(self) -> None:
        """Ends the present paragraph."""
        if self.lines and not self.in_silent_section:
            self.done.append(" ".join(self.lines))
        self.lines, self.hanging = [], False

    def add(self, line: str) -> None:
        """Takes the next line."""
        text = line.strip()
        if not text or self.in_fence or _FENCE.match(text):
            self.end()
            self.in_doctest = False
            self.in_fence ^= bool(_FENCE.match(text))
            return
        indent = len(line) - len(line.lstrip())
        if self.in_doctest or (self.skip_deeper is not None and indent > self.skip_deeper):
            return
        self.skip_deeper = None
        if _UNDERLINE.fullmatch(text):
            self._heading(self.lines.pop() if self.lines else "")
        elif _SECTION.fullmatch(text):
            self._heading(text)
            self.skip_deeper = indent if text.endswith("::") else None
        elif _CODE.match(text):
            self.end()
            self.in_doctest = True
        elif _TABLE.match(text):
            self.end()
        elif text.startswith(".. "):
            self._directive(text, indent)
        else:
            self._prose(text, indent)

    def _heading(self, heading: str) -> None:
        self.end()
        self.in_silent_section = heading.lower().rstrip(":") in _SILENT_SECTIONS

    def _directive(self, text: str, indent: int) -> None:
        self.end()
        found = _DIRECTIVE.match(text)
        if found and found[1] in _SPEAKING:
            if found[2] and found[1] != "deprecated":
                self._start(found[2], indent, hanging=True)
        else:
            self.skip_deeper = indent

    def _prose(self, text: str, indent: int) -> None:
        if self.lines and (indent <= self.indent if self.hanging else indent != self.indent):
            self.end()
        bullet, field = _BULLET.match(text), _FIELD.match(text)
        if bullet:
            self.end()
            self._start(text[bullet.end() :], indent, hanging=True)
        elif field:
            self.end()
            self._start(field[1], indent, hanging=True)
        elif _OTHER_FIELD.match(text) or (not self.lines and _TYPED.fullmatch(text)):
            self.end()
        elif not self.lines and (named := _NAMED.match(text)):
            self._start(named[1], indent, hanging=True)
        elif self.lines:
            self.lines.append(text)
        else:
            self._start(text, indent, hanging=False)
        if text.endswith("::"):
            self.end()
            self.skip_deeper = indent

    def _start(self, text: str, indent: int, hanging: bool) -> None:
        self.lines, self.indent, self.hanging = [text] if text else [], indent, hanging


# Markup

_MARKUP = [
    (re.compile(r"\[`~?([^`\]]+)`\](?:\([^)]*\))?"), r"\1"),  # [`Name`]
    (re.compile(r"\[[\w#*, ]+\]_"), ""),  # a footnote or citation
    (re.compile(r":[\w:+.-]+:`~[\w.]*?(\w+)`"), r"\1"),  # :class:`~package.Name` shows Name
    (re.compile(r"(?::[\w:+.-]+:)?`+[~!.]?([^`<]+?)(?: *<[^`>]*>)?`+(?:__?\b)?"), r"\1"),
    (re.compile(r"!?\[([^\]]+)\]\([^)]*\)"), r"\1"),  # [text](address)
    (re.compile(r"(?<![\w*])(\*{1,2})(\S(?:[^*]*\S)?)\1(?![\w*])"), r"\2"),
    (re.compile(r"</?\w+>"), ""),
    (re.compile(r"\\ "), ""),
    (re.compile(r"::$"), ":"),
    (re.compile(r"\s+([,.;:!?])(?=\s|$)"), r"\1"),
    (re.compile(r"\s+"), " "),
]


def _without_markup(text: str) -> str:
    for pattern, plain in _MARKUP:
        text = pattern.sub(plain, text)
    return text.strip()


# English

_COMMON = """
a about after all also an and any are as at be been before but by can could do does each either every for from given
had has have how if in into is it its may more must no not of on one only or other over should since so some such than
that the their them then there these they this to under until up use used uses using was we were when where whether
which while will with within without would you your
"""
_COMMON_WORDS = frozenset(_COMMON.split())
_SYMBOLS = re.compile(r"[{}\[\]<>=|\\_^$#@~/*+%&]")
_NOT_PROSE = re.compile(r"``|://|\w\(.*\) *(?:->|=)|\\[a-z]+|\w=\w.*\w=\w|\{\w*\}")
_ENDED = re.compile(r".*[.!?:…][)\]\"'”’]*|.*[)\]]", re.DOTALL)


def _reads_as_english(text: str) -> bool:
    words = text.split()
    if len(words) < 5 or not (text[0].isupper() or text[0] in "\"'(“‘"):
        return False
    if len(_SYMBOLS.findall(text)) > 0.04 * len(text) or _NOT_PROSE.search(text):
        return False
    if not _ENDED.fullmatch(text) and (len(words) < 8 or ". " in text):  # a phrase, or cut off
        return False
    plain = text.translate(_WITHOUT_PUNCTUATION).split()
    alphabetic = sum(word.isalpha() for word in plain)
    common = sum(word.lower() in _COMMON_WORDS for word in plain)
    latin = text.isascii() or sum(letter > "\u024f" for letter in text) <= 0.02 * len(text)
    return latin and alphabetic >= 0.8 * len(words) and common >= max(1, 0.2 * len(words))


_WITHOUT_PUNCTUATION = str.maketrans("", "", ".,;:!?\"'()“”‘’-–—")
