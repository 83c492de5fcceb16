"""From a paragraph to its sentences, by a few rules and a list of abbreviations.

A boundary is a closing mark (``. ! ? …``, also of Hindi, Arabic and Urdu), perhaps closing quotes, white space, and
then anything but a small letter. The closing marks of Chinese and Japanese need no space. After a full stop the word
before it decides: behind a title, an initial or an abbreviation the sentence mostly goes on.
"""

from __future__ import annotations

import re

_OPENING = "\"'`*_“”‘’«‹([{¿¡„‚—–-"
_BOUNDARY = re.compile(
    r"(?<![.!?…।॥؟۔])"  # once for a run of marks, of which a table of contents has thousands
    r"[.!?…।॥؟۔]+[\"'”’»›)\]}*_`]*(?:\[\d+\])*\s+"  # a mark, closing quotes, the number of a footnote, space
    r"|[。！？｡]+[」』”’）】》]*\s*"
)
_NEXT = re.compile(rf"(?P<quotes>[{re.escape(_OPENING)}]*)(?P<word>[^\W\d_]+\b(?!\.))?")
_DOTTED = re.compile(r"(?:\w\.)*\w|(?:\w{1,2}\.)+\w{1,2}")  # "J", "U.S", "Ph.D"
_ITEM = re.compile(r"\W*(?:\d{1,3}|\w|[ivx]{1,5}|[IVX]{1,5})")  # "1. First", "b. Second"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What a name or a phrase follows.
_INSIDE = _words(
    "mr mrs ms messrs dr prof rev fr sr hon gen col lt capt cmdr maj sgt cpl adm gov sen rep pres "
    "e.g i.e eg ie cf viz vs resp approx ca incl esp al aka a.k.a w.r.t"
)
# What a number follows: "No. 5", "pp. 3".
_NUMBERED = _words("no nos nr fig figs eq eqs vol vols p pp pg ch chap sec sect art ref refs tab ed c b d")
# What may close a sentence: the next word decides, as after initials.
_EITHER = _words(
    "etc inc ltd co corp bros jr dept univ assn st ste mt ft ave blvd est "
    "jan feb mar apr jun jul aug sep sept oct nov dec"
)
# Words that open sentences far more often than they follow an abbreviation with a capital.
_OPENERS = _words(
    "The A An It Its He His She Her They Their We Our You Your I This That These Those There Then Thus In On At As For "
    "From By With After Before During Since Although Though While When Where If However But And Or So Because Both "
    "Each Most Many Some All Other Another One Two According To Under Also What Who How Why Not"
)


def split_sentences(paragraph: str) -> list[str]:
    """Splits a paragraph into sentences.

    Args:
        paragraph: Running text; line breaks within count as spaces.

    Returns:
        The sentences in order, none empty, without white space at their ends. Only white space is left out: without
        it the sentences joined equal the paragraph.
    """
    sentences: list[str] = []
    begin = 0
    for match in _BOUNDARY.finditer(paragraph):
        if _ends_sentence(paragraph, begin, match.start(), match.end()):
            sentences.append(paragraph[begin : match.end()].strip())
            begin = match.end()
    sentences.append(paragraph[begin:].strip())
    return [sentence for sentence in sentences if sentence]


def _ends_sentence(paragraph: str, begin: int, mark: int, after: int) -> bool:
    """Whether the sentence from `begin` with its closing mark at `mark` ends; the next one would start at `after`."""
    if paragraph[mark] in "。！？｡":
        return True
    initial, next_word = _look_ahead(paragraph, after)
    if initial.islower():
        return False
    if paragraph[mark] != "." or paragraph[mark + 1] in ".!?…":
        return True
    words = paragraph[max(begin, mark - 24) : mark].split()
    if not words:
        return True
    word = words[-1].lstrip(_OPENING)
    known = word.lower()
    if known in _INSIDE or (known in _NUMBERED and initial.isdigit()):
        return False
    if known in _EITHER or (_DOTTED.fullmatch(word) and not word.isdigit()):
        return next_word in _OPENERS
    return not _ITEM.fullmatch(paragraph[begin:mark])


def _look_ahead(paragraph: str, after: int) -> tuple[str, str]:
    """The first character behind opening quotes and the word it starts, empty for an initial or no word."""
    found = _NEXT.match(paragraph, after)
    place = found.end("quotes") if found else after
    return paragraph[place : place + 1], (found and found["word"]) or ""
