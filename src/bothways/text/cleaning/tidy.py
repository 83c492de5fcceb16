"""Tidying what stands in a document: markup, characters nobody sees, lines that every page has."""

from __future__ import annotations

import re
from collections import Counter
from html import unescape
from html.parser import HTMLParser

STEPS = {
    "markup": "HTML elements and entities, and what is left of tables of a wiki",
    "control characters": "control characters, invisible marks and odd spaces",
    "boilerplate phrases": "lines about cookies, copyright, scripts, sharing, logging in",
}
"""What is done to every document, in this order, and what each step takes out."""

_MAYBE_MARKUP = re.compile(r"<[!/]?[a-zA-Z]|&(?:#\d|#x[\da-fA-F]|[a-zA-Z]{2,8};)|^[!|]\s*\w+\s*=", re.MULTILINE)
_WIKI_TABLE = re.compile(r"^[!|]\s*(?:col|row|width|style|align|class|bgcolor|scope|valign)\w*\s*=.*$", re.MULTILINE)
_UNSEEN = {"script", "style", "noscript", "template", "head", "svg", "iframe", "nav", "footer", "form"}
_BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt", "fieldset", "figcaption"),
    *("figure", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "html", "li", "main", "ol", "p", "pre"),
    *("section", "table", "tbody", "td", "tfoot", "th", "thead", "title", "tr", "ul"),
}
_INLINE = {
    *("a", "abbr", "acronym", "b", "bdi", "bdo", "big", "button", "center", "cite", "code", "col", "data", "del", "em"),
    *("font", "i", "img", "input", "ins", "kbd", "label", "link", "mark", "math", "meta", "q", "s", "samp", "small"),
    *("source", "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "video", "wbr"),
}
_CLOSED = re.compile(r"</([a-zA-Z][^\s/>]*)")
_SPACES = re.compile(r"[ \t\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
# Invisible, but for the joiners of Persian and of Indian scripts (U+200C, U+200D); surrogates stand for no character.
_UNSEEN_CHARACTERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff"
    "\ufff0-\ufffd\ue000-\uf8ff\ud800-\udfff]"
)
_BREAKS = re.compile("\r\n?|[\u2028\u2029\x0b\x0c\x85]")
_BOILERPLATE = re.compile(
    r"\b(?:(?:we|site|website) uses? cookies|cookie (?:policy|settings|preferences)|accept (?:all )?cookies"
    r"|privacy policy|terms (?:of (?:use|service)|and conditions) ?(?:apply|\||·|$)|all rights reserved"
    r"|(?:enable|turn on) javascript|javascript (?:is|must be) (?:disabled|enabled|required)"
    r"|(?:sign|log) ?in to (?:continue|comment|reply|post|your)"
    r"|subscribe to (?:our|the|this) (?:newsletter|feed|channel)"
    r"|share (?:this )?(?:on|via|to) (?:facebook|twitter|whatsapp|linkedin|x\b)|follow us on|skip to (?:main )?content"
    r"|(?:previous|next) (?:post|article|page)\b ?(?:[:»«›‹|]|$)|back to top|leave a (?:comment|reply)$"
    r"|click here to|powered by wordpress|add to (?:cart|basket|wishlist))",
    re.IGNORECASE,
)
_LONGEST_BOILERPLATE = 25  # words: a longer line says more than that


def tidy(paragraphs: list[str]) -> tuple[list[str], list[str]]:
    """Tidies a document.

    Args:
        paragraphs: Its paragraphs.

    Returns:
        What is left of them, white space evened out, none blank; and the `STEPS` that changed something.
    """
    changed = []
    text = "\n".join(paragraphs)
    if _MAYBE_MARKUP.search(text):
        plain = without_markup(text)
        if plain != text:
            changed.append("markup")
            text = plain
    plain = _UNSEEN_CHARACTERS.sub("", _BREAKS.sub("\n", text))
    lines = [kept for line in plain.split("\n") if (kept := _SPACES.sub(" ", line).strip())]
    if plain != text or "\u00a0" in text:
        changed.append("control characters")
    said = [line for line in lines if not is_boilerplate(line)]
    if len(said) < len(lines):
        changed.append("boilerplate phrases")
    return said, changed


def is_boilerplate(line: str) -> bool:
    """Whether a line says what pages say around their text (English; the phrases that C4 looks for, Raffel 2020)."""
    return len(line) < 400 and len(line.split()) <= _LONGEST_BOILERPLATE and _BOILERPLATE.search(line) is not None


def without_markup(text: str) -> str:
    """A text without HTML: what is shown, its blocks on lines of their own; ``<`` that opens no element stays."""
    plain = _WIKI_TABLE.sub("", text)
    reader = _Shown(plain)
    reader.feed(plain)
    reader.end()
    return "".join(reader.pieces)


class _Shown(HTMLParser):
    """Collects what a page shows.

    What is never closed hides nothing: it is a name in a text about pages, or its end was forgotten.

    Args:
        page: All that will be fed.
    """

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._unseen: list[str] = []
        self._ahead = Counter(map(str.lower, _CLOSED.findall(page)))  # ends of elements that are still to come

    def end(self) -> None:
        """Takes what is left, a mark that never ends and all behind it, for text.

        Python's own `close` leaves that out, since 3.13.6 and the last ones of older versions.
        """
        while ">" in (rest := self.rawdata) and rest[0] == "<":
            self.rawdata = ""
            self.handle_data("<")
            self.feed(rest[1:])
        self.handle_data(unescape(self.rawdata))

    def set_cdata_mode(self, elem: str, **options: bool) -> None:
        if self._ahead[elem] > 0:
            super().set_cdata_mode(elem, **options)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN and self._ahead[tag] > 0:
            self._unseen.append(tag)
        elif tag in _UNSEEN:
            if tag != "head" and not attrs:  # named, and not markup whose end was forgotten
                self.handle_data(self.get_starttag_text() or "")
        elif tag in _BLOCKS:
            self.pieces.append("\n")
        elif tag not in _INLINE:
            self.handle_data(self.get_starttag_text() or "")  # "<lod" of a text that compares, or XML of one's own

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._ahead[tag] -= 1
        if tag in self._unseen:
            del self._unseen[self._unseen.index(tag) :]
        elif tag in _BLOCKS:
            self.pieces.append("\n")
        elif tag not in _INLINE and tag not in _UNSEEN:
            self.handle_data(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.pieces.append(data)
