"""Named rules that say which documents are no text to learn from, each with what it looks at and where it is from.

Most are those of Gopher (Rae et al. 2021, appendix A1.1), with its thresholds; lengths are left wide, since an abstract
or a review is a document here. What counts in words is not asked of scripts that write none apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from bothways.text.cleaning.grams import UNSPACED

_UNSPACED = re.compile(f"[{UNSPACED}]")
_BULLETS = ("•", "‣", "◦", "▪", "●", "*", "-", "–", "·")
_FEWEST_WORDS = 5
_FEW_WORDS = 100  # in fewer the name of what they are about may well be a fifth
_NEVER_LETTERS = re.compile(r"[\W\d_]+")


class Look:
    """A document as the rules look at it; what several rules need is computed once.

    Attributes:
        lines: Its paragraphs.
        text: All of them.
    """

    def __init__(self, lines: list[str]) -> None:
        self.lines, self.text = lines, "\n".join(lines)

    @cached_property
    def words(self) -> list[str]:
        """What white space separates."""
        return self.text.split()

    @cached_property
    def spaced(self) -> bool:
        """Whether its script puts spaces between words."""
        head = self.text[:2000]
        return len(_UNSPACED.findall(head)) < 0.3 * len(head)


@dataclass(frozen=True)
class Rule:
    """A reason to leave a document out.

    Attributes:
        what: What it finds, for people.
        finds: Whether a document is one of those.
    """

    what: str
    finds: Callable[[Look], bool]


def _too_short(look: Look) -> bool:
    return len(look.words) < _FEWEST_WORDS if look.spaced else len(look.text) < 2 * _FEWEST_WORDS


def _odd_words(look: Look) -> bool:
    return look.spaced and not 3 <= sum(map(len, look.words)) / max(len(look.words), 1) <= 12


def _symbols(look: Look) -> bool:
    text = look.text
    marks = sum(map(text.count, "#|{}<>\\=~^")) + text.count("...") + text.count("…")
    return marks > 0.1 * len(look.words if look.spaced else text)


def _no_letters(look: Look) -> bool:
    if look.spaced:
        if sum(map(str.isalpha, look.words)) >= 0.7 * len(look.words):  # soon told of most documents
            return False
        return sum(_NEVER_LETTERS.fullmatch(word) is None for word in look.words) < 0.7 * len(look.words)
    return len(_NEVER_LETTERS.sub("", look.text)) < 0.5 * len(look.text)


def _list_only(look: Look) -> bool:
    return len(look.lines) >= 5 and sum(line.startswith(_BULLETS) for line in look.lines) > 0.9 * len(look.lines)


def _cut_lines(look: Look) -> bool:
    cut = sum(line.endswith(("...", "…")) for line in look.lines)
    return len(look.lines) >= 3 and cut > 0.3 * len(look.lines)


def _repeats_itself(look: Look) -> bool:
    lines = look.lines
    if len(lines) >= 4 and len(lines) - len(set(lines)) > 0.3 * len(lines):
        return True
    words = [word.lower() for word in look.words]
    if len(words) < _FEW_WORDS:
        return False
    letters = sum(map(len, words))
    for size, share in ((2, 0.20), (3, 0.18), (4, 0.16)):
        gram, count = Counter(zip(*(words[start:] for start in range(size)), strict=False)).most_common(1)[0]
        if count > 2 and count * sum(map(len, gram)) > share * letters:
            return True
    return False


def _code(look: Look) -> bool:
    braces = sum(line.rstrip().endswith(("{", "}", ";", "};", "/>")) for line in look.lines)
    return len(look.lines) >= 3 and braces > 0.3 * len(look.lines)


QUALITY = {
    "short": Rule(f"fewer than {_FEWEST_WORDS} words", _too_short),
    "odd words": Rule("words of less than 3 or more than 12 characters on average (Gopher: 3 to 10)", _odd_words),
    "symbols": Rule("a symbol such as # or ... for every tenth word (Gopher)", _symbols),
    "no letters": Rule("less than seven in ten words with a letter (Gopher: eight)", _no_letters),
    "list": Rule("nine in ten lines are items of a list (Gopher)", _list_only),
    "cut lines": Rule("three in ten lines end in an ellipsis (Gopher)", _cut_lines),
    "repetition": Rule("a third of the lines, or one phrase, said again and again (Gopher)", _repeats_itself),
    "code": Rule("three in ten lines end as lines of a program do (after C4, Raffel et al. 2020)", _code),
}
"""Looked at in this order; a document counts for the first rule that finds it."""
OTHERS = {
    "language": "another language than the ones asked for",
    "evaluation": "text that stands in an evaluation file",
    "exact duplicate": "the same words as a document before it",
    "near duplicate": "nearly the same words as a document before it",
    "boilerplate": "nothing left without lines that many documents share",
    "mixture": "more than the weights of the sources take",
}
"""Why else documents are left out, and what each reason says."""


def first_rule(lines: list[str], names: frozenset[str]) -> str | None:
    """The first of the named rules that finds a document; None for one to keep."""
    look = Look(lines)
    return next((name for name, rule in QUALITY.items() if name in names and rule.finds(look)), None)
