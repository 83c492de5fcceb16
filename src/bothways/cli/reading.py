"""Texts from the command line or from standard input."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bothways.errors import BothwaysError
from bothways.text.files import check_exists, is_stdin, open_text


def lines_or_texts(texts: list[str]) -> list[str]:
    """The texts as typed; a single ``-`` stands for the lines of standard input.

    Raises:
        BothwaysError: Standard input holds no line, or no text that can be read.
    """
    if texts != ["-"]:
        return texts
    with open_text("-") as numbered:
        lines = [line for _, line in numbered if line.strip()]
    if not lines:
        raise BothwaysError("standard input holds no text; pipe lines into it or type texts instead of -")
    return lines


def named_files(typed: Sequence[str]) -> str | list[Path]:
    """Files and folders as they were typed: the only one, or all. A name that nothing has is not taken for a text.

    Raises:
        BothwaysError: One of them is not there.
    """
    for one in typed:
        if not is_stdin(one) and "://" not in one:
            check_exists(Path(one))
    return typed[0] if len(typed) == 1 else [Path(one) for one in typed]
