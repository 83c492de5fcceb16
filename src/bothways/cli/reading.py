"""Texts from the command line or from standard input."""

from __future__ import annotations

import sys

from bothways.errors import BothwaysError


def lines_or_texts(texts: list[str]) -> list[str]:
    """The texts as typed; a single ``-`` stands for the lines of standard input.

    Raises:
        BothwaysError: Standard input holds no line.
    """
    if texts != ["-"]:
        return texts
    lines = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    if not lines:
        raise BothwaysError("standard input holds no text; pipe lines into it or type texts instead of -")
    return lines
